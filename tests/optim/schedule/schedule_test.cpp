#include "optim/schedule/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "optim/schedule/registry.h"
#include "train/config/load.h"

namespace toroid::optim {
namespace {

Schedule make(const std::string& schedule, const ScheduleRegistry& registry = builtin_schedules()) {
  const std::string text =
      "model { d_model: 32 layers: 2 heads: 4 head_dim: 8 ffn: 40 vocab: 96 }\n"
      "batch { tokens_per_sequence: 16 global_sequences: 4 }\n"
      "train { steps: 100 }\noptim { schedule { " +
      schedule + " } }";
  return registry.make(config::load_text(text, "test").run.optim().schedule());
}

TEST(Schedule, constant_rises_and_stays) {
  const Schedule rate = make("constant { peak: 2 warmup: 4 }");
  EXPECT_DOUBLE_EQ(rate(0), 0.5);
  EXPECT_DOUBLE_EQ(rate(3), 2);
  EXPECT_DOUBLE_EQ(rate(1'000'000'000'000), 2);
  EXPECT_DOUBLE_EQ(make("constant { peak: 2 }")(0), 2);
}

TEST(Schedule, linear_falls_to_its_final_fraction) {
  const Schedule rate = make("linear { peak: 1 warmup: 20 final_fraction: 0.5 }");
  EXPECT_DOUBLE_EQ(rate(0), 0.05);
  EXPECT_DOUBLE_EQ(rate(20), 1);
  EXPECT_DOUBLE_EQ(rate(60), 0.75);
  EXPECT_DOUBLE_EQ(rate(100), 0.5);
  EXPECT_DOUBLE_EQ(rate(1000), 0.5);
}

TEST(Schedule, cosine_is_half_way_in_the_middle) {
  const Schedule rate = make("cosine { peak: 2e-3 warmup: 40 final_fraction: 0.1 steps: 600 }");
  EXPECT_DOUBLE_EQ(rate(39), 2e-3);
  EXPECT_DOUBLE_EQ(rate(40), 2e-3);
  EXPECT_NEAR(rate(320), 2e-3 * 0.55, 1e-12);
  EXPECT_NEAR(rate(600), 2e-4, 1e-12);
  for (int64_t step = 41; step < 600; ++step) EXPECT_LT(rate(step), rate(step - 1)) << step;
}

TEST(Schedule, warmup_stable_decay_has_three_parts) {
  const Schedule rate = make("warmup_stable_decay { peak: 1 warmup: 10 decay: 20 }");
  EXPECT_DOUBLE_EQ(rate(4), 0.5);
  EXPECT_DOUBLE_EQ(rate(10), 1);
  EXPECT_DOUBLE_EQ(rate(79), 1);
  EXPECT_DOUBLE_EQ(rate(90), 0.5);
  EXPECT_DOUBLE_EQ(rate(100), 0);
  // No decay at all, and warm-up right into decay.
  EXPECT_DOUBLE_EQ(make("warmup_stable_decay { peak: 1 decay: 0 }")(99), 1);
  EXPECT_DOUBLE_EQ(make("warmup_stable_decay { peak: 1 warmup: 50 decay: 50 }")(50), 1);
}

// A schedule from outside: one function, one add(), and the config names it.
Schedule inverse_square_root(const config::ScheduleConfig& config) {
  return [peak = parameter(config, "peak"), warmup = parameter(config, "warmup", 100)](int64_t step) {
    return peak * std::sqrt(warmup / std::max(warmup, static_cast<double>(step + 1)));
  };
}

TEST(ScheduleRegistry, one_more_is_used_by_config) {
  ScheduleRegistry registry = builtin_schedules();
  registry.add("inverse_square_root", inverse_square_root);
  const Schedule rate = make(
      "custom { name: \"inverse_square_root\" parameter { key: \"peak\" value: 0.5 } "
      "parameter { key: \"warmup\" value: 4 } }",
      registry);
  EXPECT_DOUBLE_EQ(rate(0), 0.5);
  EXPECT_DOUBLE_EQ(rate(15), 0.25);
}

TEST(ScheduleRegistry, refuses_what_it_does_not_know) {
  const auto message = [](const std::string& schedule) -> std::string {
    ScheduleRegistry registry = builtin_schedules();
    registry.add("inverse_square_root", inverse_square_root);
    try {
      make(schedule, registry);
    } catch (const UserError& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_NE(message("custom { name: \"inverse_sqare_root\" }").find("did you mean \"inverse_square_root\"?"),
            std::string::npos);
  EXPECT_NE(message("custom { name: \"cosine\" }").find("which is built in"), std::string::npos);
  EXPECT_NE(message("custom { name: \"inverse_square_root\" }").find("needs a parameter \"peak\""),
            std::string::npos);
  ScheduleRegistry registry;
  registry.add("a", inverse_square_root);
  EXPECT_THROW(registry.add("a", inverse_square_root), InternalError);
}

}  // namespace
}  // namespace toroid::optim
