// Optimizers by name, and the update that a rule issues against the same formula in double.
#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/device/reference_device.h"
#include "core/device/sim/recording_device.h"
#include "core/op/reference.h"
#include "core/op/update.h"
#include "optim/bounds.pb.h"
#include "optim/check.h"
#include "optim/optim.pb.h"
#include "tests/core/op/workbench.h"

namespace toroid::optim {
namespace {

config::OptimConfig custom(const std::string& name) {
  config::OptimConfig config;
  config.mutable_custom()->set_name(name);
  return config;
}

class Nothing final : public Optimizer {
 public:
  std::vector<std::string> states(const UpdatedTensor&) const override { return {}; }
  void update(Device&, const StepScalars&, const Tensor&, const Tensor&, std::span<const Tensor>,
              const UpdatedTensor&) const override {}
};

TEST(OptimizerRegistry, makes_what_the_config_names) {
  OptimizerRegistry registry = builtin_optimizers();
  registry.add("nothing", [](const config::OptimConfig&) { return std::make_unique<Nothing>(); });
  EXPECT_TRUE(registry.make(custom("nothing"))->states({}).empty());
  config::OptimConfig adamw;
  adamw.mutable_adamw();
  EXPECT_EQ(registry.make(adamw)->states({}), (std::vector<std::string>{"exp_avg", "exp_avg_sq"}));
}

TEST(OptimizerRegistry, refuses_a_name_that_nobody_registered) {
  OptimizerRegistry registry = builtin_optimizers();
  registry.add("nothing", [](const config::OptimConfig&) { return std::make_unique<Nothing>(); });
  try {
    (void)registry.make(custom("no\x1bthing"));
    FAIL() << "an unknown optimizer was made";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("adamw, lion, muon, nothing, sgd"), std::string::npos) << text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos)
        << "what a config says does not reach a terminal as it is";
  }
}

// Whoever adds an arm to the config's schema and forgets its line is told so, and is not given AdamW.
TEST(OptimizerRegistry, has_a_line_for_every_arm) {
  const auto* oneof = config::OptimConfig::descriptor()->FindOneofByName("rule");
  for (int i = 0; i < oneof->field_count(); ++i) {
    const auto* arm = oneof->field(i);
    if (arm->name() == "custom") continue;
    config::OptimConfig config;
    (void)config.GetReflection()->MutableMessage(&config, arm);
    EXPECT_NO_THROW((void)builtin_optimizers().make(config)) << arm->name();
    try {
      (void)OptimizerRegistry().make(config);
      FAIL() << arm->name() << " was made without its line";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(arm->name()), std::string::npos) << error.what();
    }
  }
}

TEST(OptimizerRegistry, refuses_a_config_without_a_rule) {
  EXPECT_THROW((void)builtin_optimizers().make(config::OptimConfig()), UserError);
  EXPECT_THROW((void)builtin_optimizers().make(custom("adamw")), UserError) << "it is built in";
}

TEST(OptimizerRegistry, takes_a_name_once) {
  OptimizerRegistry registry = builtin_optimizers();
  EXPECT_THROW(registry.add("adamw", [](const config::OptimConfig&) { return std::make_unique<Nothing>(); }),
               InternalError);
}

TEST(OptimizerRegistry, hands_on_the_parameters_of_a_custom_rule) {
  config::OptimConfig config = custom("mine");
  auto* parameter = config.mutable_custom()->add_parameter();
  parameter->set_key("momentum");
  parameter->set_value(0.5);
  EXPECT_EQ(optim::parameter(config, "momentum", 0.9), 0.5);
  EXPECT_EQ(optim::parameter(config, "damping", 0.25), 0.25);
}

TEST(OptimConfig, is_checked) {
  EXPECT_THROW(check(custom("")), UserError);
  config::OptimConfig config;
  config.mutable_schedule()->mutable_constant()->set_peak(1e-3);
  config.mutable_muon();
  EXPECT_NO_THROW(check(config));
  config.mutable_muon()->mutable_adamw()->set_beta1(1.5);
  try {
    check(config);
    FAIL() << "a beta above 1 was taken";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("optim.muon.adamw.beta1 is 1.5"), std::string::npos)
        << error.what();
  }
  config.mutable_adamw()->set_weight_decay(NAN);
  EXPECT_THROW(check(config), UserError);
  config.mutable_muon()->set_iterations(0);
  EXPECT_THROW(check(config), UserError);
}

// Every number of every rule has bounds beside it.
TEST(OptimConfig, every_number_of_a_rule_is_bounded) {
  using Field = google::protobuf::FieldDescriptor;
  const auto* oneof = config::OptimConfig::descriptor()->FindOneofByName("rule");
  for (int i = 0; i < oneof->field_count(); ++i) {
    if (oneof->field(i)->name() == "custom") continue;
    const auto* rule = oneof->field(i)->message_type();
    for (int j = 0; j < rule->field_count(); ++j) {
      const Field& field = *rule->field(j);
      if (field.cpp_type() != Field::CPPTYPE_DOUBLE && field.cpp_type() != Field::CPPTYPE_INT64) continue;
      EXPECT_TRUE(field.options().HasExtension(config::bounds)) << field.full_name();
    }
  }
}

// Loshchilov and Hutter 2019, algorithm 2, for one element, in double.
struct ScalarAdamW {
  double beta1, beta2, epsilon, decay;
  double w, m = 0, v = 0;
  void step(double gradient, double clip, double rate, int64_t t) {
    const double g = clip * gradient;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const double first = m / (1 - std::pow(beta1, t)), second = v / (1 - std::pow(beta2, t));
    w = w - rate * decay * w - rate * first / (std::sqrt(second) + epsilon);
  }
};

class AdamWTest : public ::testing::Test {
 protected:
  static constexpr int64_t kElements = 5;
  Array array(const std::vector<double>& values) {
    Array out = device_.array(DType::f32, {static_cast<int64_t>(values.size())}, "optimizer");
    op::store(out.tensor, values);
    return out;
  }
  static config::OptimConfig settings() {
    config::OptimConfig out;
    auto* adamw = out.mutable_adamw();
    adamw->set_beta1(0.8);
    adamw->set_beta2(0.9);
    adamw->set_epsilon(1e-3);
    adamw->set_weight_decay(0.2);
    return out;
  }
  ReferenceDevice device_;
};

TEST_F(AdamWTest, follows_the_formula_of_a_scalar) {
  const auto rule = builtin_optimizers().make(settings());
  for (const bool decay : {true, false}) {
    const std::vector<double> start{1, -2, 0.5, 0, 3};
    const Array master = array(start), m = array(std::vector<double>(kElements)),
                v = array(std::vector<double>(kElements));
    const std::vector<Tensor> states{m.tensor, v.tensor};
    std::vector<ScalarAdamW> scalars;
    for (const double w : start) scalars.push_back({0.8, 0.9, 1e-3, decay ? 0.2 : 0, w});
    const RandomKey key = random_key(5, Purpose::synthetic, "gradients");
    for (int64_t t = 1; t <= 6; ++t) {
      const double clip = t == 3 ? 0.25 : 1, rate = 0.01 * static_cast<double>(t);
      std::vector<double> gradient, state(op::kStateSize), control(op::kControlSize);
      for (int64_t i = 0; i < kElements; ++i)
        gradient.push_back(normal(key, static_cast<uint64_t>(t * kElements + i)));
      state[op::update_count] = static_cast<double>(t);
      control[op::apply] = 1;
      control[op::clip] = clip;
      control[op::rate] = rate;
      const Array g = array(gradient), state_array = array(state), control_array = array(control);
      rule->update(device_, {state_array.tensor, control_array.tensor}, g.tensor, master.tensor, states,
                   {"w", {kElements}, decay, false});
      for (size_t i = 0; i < gradient.size(); ++i)
        scalars[i].step(static_cast<float>(gradient[i]), clip, static_cast<float>(rate), t);
    }
    const std::vector<double> w = op::load(master.tensor), first = op::load(m.tensor),
                              second = op::load(v.tensor);
    for (size_t i = 0; i < w.size(); ++i) {
      // Six steps, each of which rounds to f32.
      const auto near = [](double expected) { return 6 * 0x1p-23 * (1 + std::abs(expected)); };
      EXPECT_NEAR(w[i], scalars[i].w, near(scalars[i].w)) << (decay ? "decaying" : "without decay");
      EXPECT_NEAR(first[i], scalars[i].m, near(scalars[i].m));
      EXPECT_NEAR(second[i], scalars[i].v, near(scalars[i].v));
    }
  }
}

TEST_F(AdamWTest, changes_nothing_where_the_step_is_skipped) {
  const auto rule = builtin_optimizers().make(settings());
  const Array master = array({1, 2}), m = array({0.5, 0.25}), v = array({0.125, 1}), g = array({NAN, 1}),
              state = array(std::vector<double>(op::kStateSize, 1)),
              control = array(std::vector<double>(op::kControlSize, 0));
  rule->update(device_, {state.tensor, control.tensor}, g.tensor, master.tensor,
               std::vector<Tensor>{m.tensor, v.tensor}, {"w", {2}, true, false});
  EXPECT_EQ(op::load(master.tensor), (std::vector<double>{1, 2}));
  EXPECT_EQ(op::load(m.tensor), (std::vector<double>{0.5, 0.25}));
  EXPECT_EQ(op::load(v.tensor), (std::vector<double>{0.125, 1}));
}

// One operator for each tensor, charged to the optimizer's phase.
TEST_F(AdamWTest, is_one_operator_of_the_optimizers_phase) {
  RecordingDevice recorder(toroid::testing::primitive_kernels());
  std::vector<Array> arrays;
  for (const int64_t size :
       {int64_t{8}, int64_t{8}, int64_t{8}, int64_t{8}, int64_t{op::kStateSize}, int64_t{op::kControlSize}}) {
    arrays.push_back(recorder.array(DType::f32, {size}, "operand"));
  }
  recorder.clear();
  builtin_optimizers()
      .make(settings())
      ->update(recorder, {arrays[4].tensor, arrays[5].tensor}, arrays[0].tensor, arrays[1].tensor,
               std::vector<Tensor>{arrays[2].tensor, arrays[3].tensor}, {"w", {8}, true, false});
  ASSERT_EQ(recorder.records().size(), 1u);
  EXPECT_EQ(recorder.records()[0].op, "adamw");
  EXPECT_EQ(recorder.records()[0].phase, Phase::optimizer);
}

}  // namespace
}  // namespace toroid::optim
