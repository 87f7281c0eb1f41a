// The update rules against PyTorch's own (make_golden.py), and what holds of every rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/random.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/reference_device.h"
#include "core/op/reference.h"
#include "core/op/update.h"
#include "optim/optim.pb.h"
#include "optim/optimizer.h"

namespace toroid::optim {
namespace {

using Json = nlohmann::json;
using Values = std::vector<double>;

config::OptimConfig config_of(const std::string& rule) {
  config::OptimConfig out;
  if (rule == "muon" || rule == "muon_plain") {
    out.mutable_muon()->set_nesterov(rule == "muon");
  } else if (rule == "sgd" || rule == "sgd_nesterov") {
    out.mutable_sgd()->set_nesterov(rule == "sgd_nesterov");
    out.mutable_sgd()->set_weight_decay(0.1);
  } else if (rule == "lion") {
    out.mutable_lion();
  } else {
    out.mutable_adamw();
  }
  return out;
}

// One tensor under one rule, as a rank that holds all of it.
class Trained {
 public:
  Trained(Device& device, const Optimizer& rule, UpdatedTensor tensor, DType products, bool deterministic)
      : device_(device), rule_(rule), tensor_(std::move(tensor)) {
    numerics_.products = products;
    numerics_.tiles.deterministic = deterministic;
    const Shape flat{tensor_.shape.elements()}, shape = rule_.whole(tensor_) ? tensor_.shape : flat;
    master_ = device_.array(DType::f32, flat, "test");
    for (size_t i = 0; i < rule_.states(tensor_).size(); ++i) {
      states_.push_back(device_.array(DType::f32, shape, "test"));
      state_views_.push_back(states_.back().tensor);
      op::store(state_views_.back(), Values(static_cast<size_t>(flat.elements()), 0));
    }
  }
  void set(const Values& weight) { op::store(master_.tensor, weight); }
  Values weight() const { return op::load(master_.tensor); }
  std::vector<Values> states() const {
    std::vector<Values> out;
    for (const Tensor& state : state_views_) out.push_back(op::load(state));
    return out;
  }

  void step(const Values& gradient, double rate, double clip = 1, bool apply = true) {
    if (apply) ++updates_;
    Values state(op::kStateSize), control(op::kControlSize);
    state[op::update_count] = updates_;
    control[op::apply] = apply ? 1 : 0;
    control[op::clip] = clip;
    control[op::rate] = rate;
    const Array state_array = array(state), control_array = array(control), g = array(gradient);
    const StepScalars scalars{state_array.tensor, control_array.tensor};
    if (!rule_.whole(tensor_)) {
      rule_.update(device_, scalars, g.tensor, master_.tensor, state_views_, tensor_);
      return;
    }
    const Array direction = device_.array(numerics_.products, tensor_.shape, "test");
    rule_.find_direction(device_, scalars, g.tensor.reshape(tensor_.shape), state_views_, direction.tensor,
                         numerics_);
    rule_.descend(device_, scalars, direction.tensor.reshape({tensor_.shape.elements()}), master_.tensor,
                  tensor_);
  }

 private:
  Array array(const Values& values) {
    Array out = device_.array(DType::f32, {static_cast<int64_t>(values.size())}, "test");
    op::store(out.tensor, values);
    return out;
  }

  Device& device_;
  const Optimizer& rule_;
  UpdatedTensor tensor_;
  UpdateNumerics numerics_;
  Array master_;
  std::vector<Array> states_;
  std::vector<Tensor> state_views_;
  double updates_ = 0;
};

UpdatedTensor matrix(int64_t out, int64_t in) {
  return {"model.layers.0.mlp.up_proj.weight", {out, in}, true, true};
}

Values random(const char* name, int64_t step, int64_t elements, double size = 1) {
  const RandomKey key = random_key(11, Purpose::synthetic, name);
  Values out;
  for (int64_t i = 0; i < elements; ++i)
    out.push_back(size * normal(key, static_cast<uint64_t>(step * elements + i)));
  return out;
}

double norm(const Values& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

// The distance of what a step did from what PyTorch's did, over the size of that.
double distance(const Values& before, const Values& after, const Values& expected) {
  Values moved(after.size()), apart(after.size());
  for (size_t i = 0; i < after.size(); ++i) {
    moved[i] = expected[i] - before[i];
    apart[i] = after[i] - expected[i];
  }
  return norm(apart) / norm(moved);
}

struct DeviceCase {
  const char* name;
  std::unique_ptr<Device> device;
};
std::vector<DeviceCase> devices() {
  std::vector<DeviceCase> out;
  out.push_back({"reference", std::make_unique<ReferenceDevice>()});
  out.push_back({"cpu", std::make_unique<CpuDevice>(make_cpu_kernels(2))});
  return out;
}

TEST(GoldenRules, follow_pytorch) {
  std::ifstream file("tests/optim/golden.json");
  ASSERT_TRUE(file) << "run in the repository's root";
  const Json golden = Json::parse(file);
  size_t cases = 0;
  for (const Json& entry : golden.at("cases")) {
    const auto rule_name = entry.at("rule").get<std::string>();
    const bool bf16 = entry.at("name") == "bf16";
    const auto rule = builtin_optimizers().make(config_of(rule_name));
    const auto shape = entry.at("shape").get<std::vector<int64_t>>();
    for (DeviceCase& on : devices()) {
      for (const bool deterministic : {false, true}) {
        if (deterministic && bf16) continue;  // products are fp32 there
        Trained trained(*on.device, *rule, matrix(shape[0], shape[1]), bf16 ? DType::bf16 : DType::f32,
                        deterministic);
        auto before = entry.at("weight").get<Values>();
        trained.set(before);
        for (const Json& step : entry.at("steps")) {
          trained.step(step.at("gradient").get<Values>(), step.at("rate").get<double>());
          const auto expected = step.at("weight").get<Values>();
          // Five iterations round three arrays each, and the polynomial's slope, at most 3.4445, carries that
          // on. PyTorch rounds the gradient and its norm to bf16 before the first, which is one more. In fp32
          // a weight of about 0.1 is rounded coarser than a step's change.
          const double longest = std::sqrt(static_cast<double>(std::max(shape[0], shape[1])));
          const double bound = bf16 ? 3.4445 * 15 * 0x1p-8 : 15 * 0x1p-23 * (8 + 2 * longest);
          EXPECT_LT(distance(before, trained.weight(), expected), bound)
              << rule_name << " [" << shape[0] << ", " << shape[1] << "], " << entry.at("name") << ", "
              << on.name << (deterministic ? ", deterministic" : "");
          before = expected;
        }
        ++cases;
      }
    }
  }
  EXPECT_GE(cases, 40u);
}

// Singular values that are not tiny end between 0.68 and 1.13 or so: products of a wide update's rows with
// each other are elements of a matrix whose eigenvalues lie between 0.46 and 1.28.
TEST(Muon, makes_updates_nearly_orthogonal) {
  const auto rule = builtin_optimizers().make(config_of("muon"));
  ReferenceDevice device;
  for (const bool wide : {true, false}) {
    const int64_t out = wide ? 4 : 64, in = wide ? 64 : 4;
    Trained trained(device, *rule, matrix(out, in), DType::f32, false);
    trained.set(Values(static_cast<size_t>(out * in), 0));
    trained.step(random("gradient", 0, out * in, 100), 1);
    const Values w = trained.weight();
    const double scale = 0.2 * 8;
    for (int64_t a = 0; a < 4; ++a) {
      for (int64_t b = 0; b < 4; ++b) {
        double dot = 0;
        for (int64_t i = 0; i < 64; ++i) {
          const auto at = [&](int64_t j) {
            return w[static_cast<size_t>(wide ? j * in + i : i * in + j)] / scale;
          };
          dot += at(a) * at(b);
        }
        EXPECT_NEAR(dot, a == b ? 0.87 : 0, 0.42) << a << ", " << b;
      }
    }
  }
}

// The size of a gradient does not matter to a direction.
TEST(Muon, does_not_see_the_size_of_a_gradient) {
  const auto rule = builtin_optimizers().make(config_of("muon"));
  ReferenceDevice device;
  std::vector<Values> found;
  for (const double clip : {1.0, 0.125}) {
    Trained trained(device, *rule, matrix(6, 9), DType::f32, false);
    trained.set(Values(54, 0));
    trained.step(random("gradient", 0, 54), 1, clip);
    found.push_back(trained.weight());
  }
  EXPECT_LT(distance(Values(54, 0), found[1], found[0]), 1e-5);
}

// Gradients are dominated by a few directions. Rounding the Gram matrix hides the others, whose values it
// then has to leave alone: iterations that stay with one Gram matrix for too long blow them up.
TEST(Muon, in_bf16_follows_fp32_where_a_few_directions_dominate) {
  const auto rule = builtin_optimizers().make(config_of("muon"));
  constexpr int64_t kSide = 96;
  const Values a = random("left", 0, kSide * kSide), b = random("right", 0, kSide * kSide);
  Values gradient(kSide * kSide, 0);
  const auto at = [](int64_t row, int64_t column) { return static_cast<size_t>(row * kSide + column); };
  for (int64_t i = 0; i < kSide; ++i) {
    for (int64_t k = 0; k < kSide; ++k) {
      for (int64_t j = 0; j < kSide; ++j) {
        gradient[at(i, j)] += a[at(i, k)] * b[at(k, j)] / std::pow(static_cast<double>(k + 1), 1.5);
      }
    }
  }
  for (DeviceCase& on : devices()) {
    std::vector<Values> moved;
    for (const DType products : {DType::f32, DType::bf16}) {
      Trained trained(*on.device, *rule, matrix(kSide, kSide), products, false);
      trained.set(Values(kSide * kSide, 0));
      trained.step(gradient, 1);
      moved.push_back(trained.weight());
    }
    // As much as PyTorch's own bf16 may be off.
    EXPECT_LT(distance(Values(kSide * kSide, 0), moved[1], moved[0]), 3.4445 * 15 * 0x1p-8) << on.name;
  }
}

TEST(Muon, leaves_everything_but_matrices_of_layers_to_adamw) {
  config::OptimConfig config = config_of("muon");
  config.mutable_muon()->set_adamw_rate(0.5);
  const auto muon = builtin_optimizers().make(config), adamw = builtin_optimizers().make(config_of("adamw"));
  const UpdatedTensor embedding{"model.embed_tokens.weight", {4, 3}, true, false};
  EXPECT_EQ(muon->states(embedding), adamw->states(embedding));
  EXPECT_EQ(muon->states(matrix(4, 3)), std::vector<std::string>{"momentum_buffer"});
  ReferenceDevice device;
  Trained one(device, *muon, embedding, DType::f32, false),
      other(device, *adamw, embedding, DType::f32, false);
  for (Trained* trained : {&one, &other}) trained->set(random("weight", 0, 12));
  for (int64_t step = 0; step < 3; ++step) {
    one.step(random("gradient", step, 12), 0.02);
    other.step(random("gradient", step, 12), 0.01);
  }
  EXPECT_EQ(one.weight(), other.weight());
}

TEST(Lion, steps_by_the_sign) {
  const auto rule = builtin_optimizers().make(config_of("lion"));
  ReferenceDevice device;
  Trained trained(device, *rule, matrix(1, 3), DType::f32, false);
  trained.set({1, -2, 4});
  trained.step({3, -7, 0}, 0.5);
  const Values first{1 - 0.5 * (0.1 * 1 + 1), -2 - 0.5 * (0.1 * -2 - 1), 4 - 0.5 * 0.1 * 4};
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(trained.weight()[i], first[i], 1e-6);
  EXPECT_NEAR(trained.states()[0][1], -0.07, 1e-6);
  // 0.9 x 0.03 - 0.1 x 0.1 is above zero, although the gradient is below it.
  trained.step({-0.1, 0, 0}, 0.5);
  EXPECT_NEAR(trained.weight()[0], first[0] - 0.5 * (0.1 * first[0] + 1), 1e-6);
}

TEST(Rules, a_skipped_step_changes_no_bit) {
  for (const char* name : {"adamw", "muon", "lion", "sgd", "sgd_nesterov"}) {
    const auto rule = builtin_optimizers().make(config_of(name));
    for (DeviceCase& on : devices()) {
      for (const DType products : {DType::f32, DType::bf16}) {
        Trained trained(*on.device, *rule, matrix(5, 7), products, false);
        trained.set(random("weight", 0, 35));
        trained.step(random("gradient", 0, 35), 0.01);
        const Values weight = trained.weight();
        const std::vector<Values> states = trained.states();
        trained.step(Values(35, NAN), 0.01, 1, false);
        EXPECT_EQ(trained.weight(), weight) << name << " on " << on.name;
        EXPECT_EQ(trained.states(), states) << name << " on " << on.name;
      }
    }
  }
}

TEST(Rules, what_is_no_number_is_not_hidden) {
  for (const char* name : {"adamw", "muon", "lion", "sgd"}) {
    const auto rule = builtin_optimizers().make(config_of(name));
    for (DeviceCase& on : devices()) {
      Trained trained(*on.device, *rule, matrix(3, 4), DType::f32, false);
      trained.set(Values(12, 1));
      Values gradient(12, 0.5);
      gradient[5] = NAN;
      trained.step(gradient, 0.01);
      EXPECT_TRUE(std::isnan(trained.weight()[5])) << name << " on " << on.name;
    }
  }
}

}  // namespace
}  // namespace toroid::optim
