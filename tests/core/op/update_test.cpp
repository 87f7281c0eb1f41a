// The verdict on a step and the update rules against sequences computed by hand.
#include "core/op/update.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/op/reference.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;

void run(const Call& call) {
  call.kind->reference(call);
}

// A step's numbers on their way to the verdict, and the state between steps.
class Judge {
 public:
  explicit Judge(op::DecideSpec spec) : spec_(spec) {
    state_ = bench_.normal(f32, {op::kStateSize}, 0);
    control_ = bench_.output(f32, {op::kControlSize});
  }
  // The gradient's norm is `norm`, cut into two blocks.
  void step(double loss_sum, double targets, double norm, double rate = 0.1, double go = 1) {
    const double half = norm * norm / 2;
    run(op::decide(bench_.filled(f32, {2}, {half, half}), bench_.filled(f32, {1}, {loss_sum}),
                   bench_.filled(f32, {1}, {targets}), bench_.filled(f32, {1}, {rate}),
                   bench_.filled(f32, {1}, {go}), state_, control_, spec_));
  }
  void step_apart(std::initializer_list<double> squares, double own) {
    run(op::decide(bench_.filled(f32, {static_cast<int64_t>(squares.size())}, squares),
                   bench_.filled(f32, {1}, {50}), bench_.filled(f32, {1}, {10}),
                   bench_.filled(f32, {1}, {0.3}), bench_.filled(f32, {1}, {1}), state_, control_, spec_,
                   bench_.filled(f32, {1}, {own})));
  }
  float state(op::State index) const { return state_.as<float>()[index]; }
  float control(op::Control index) const { return control_.as<float>()[index]; }
  const Tensor& states() const { return state_; }
  const Tensor& controls() const { return control_; }
  Workbench& bench() { return bench_; }

 private:
  Workbench bench_;
  op::DecideSpec spec_;
  Tensor state_, control_;
};

TEST(Decide, an_applied_step) {
  Judge judge({.clip_norm = 1});
  judge.step(50, 10, 4, 0.3);
  EXPECT_EQ(judge.control(op::apply), 1);
  EXPECT_EQ(judge.control(op::reason), 0);
  EXPECT_FLOAT_EQ(judge.control(op::clip), 0.25F);
  EXPECT_FLOAT_EQ(judge.control(op::rate), 0.3F);
  EXPECT_FLOAT_EQ(judge.control(op::gradient_norm), 4);
  EXPECT_FLOAT_EQ(judge.control(op::mean_loss), 5);
  EXPECT_EQ(judge.control(op::targets), 10);
  EXPECT_EQ(judge.state(op::update_count), 1);
  EXPECT_EQ(judge.state(op::seen), 1);
  EXPECT_FLOAT_EQ(judge.state(op::loss_mean), 5);
  EXPECT_FLOAT_EQ(judge.state(op::loss_square), 25);
  EXPECT_FLOAT_EQ(judge.state(op::norm_mean), 4);
}

TEST(Decide, a_small_norm_is_not_clipped) {
  Judge judge({.clip_norm = 1});
  judge.step(50, 10, 0.5);
  EXPECT_EQ(judge.control(op::clip), 1);
  Judge unclipped({.clip_norm = 0});
  unclipped.step(50, 10, 1e6);
  EXPECT_EQ(unclipped.control(op::clip), 1);
}

TEST(Decide, pods_apart_are_judged_together_and_clipped_alone) {
  Judge judge({.clip_norm = 1});
  judge.step_apart({9, 1, 1, 5}, 9);
  EXPECT_EQ(judge.control(op::apply), 1);
  EXPECT_FLOAT_EQ(judge.control(op::gradient_norm), 2);
  EXPECT_FLOAT_EQ(judge.control(op::clip), 1.0F / 3);
  EXPECT_FLOAT_EQ(judge.state(op::norm_mean), 2);
  judge.step_apart({9, NAN, 1, 5}, 9);
  EXPECT_EQ(judge.control(op::apply), 0) << "one pod's gradient stops all pods";
  EXPECT_EQ(judge.control(op::reason), 2);
}

struct Bad {
  double loss_sum, targets, norm;
  int reason;
};

// Each reason to skip changes the skip counters and nothing else of the state.
TEST(Decide, every_reason_to_skip) {
  const Bad bad[] = {{NAN, 10, 1, 1}, {INFINITY, 10, 1, 1}, {50, 10, NAN, 2}, {50, 10, INFINITY, 2},
                     {100, 10, 1, 3}, {50, 10, 9, 4},       {0, 0, 0, 5},     {NAN, 0, NAN, 5}};
  for (const Bad& step : bad) {
    Judge judge({.clip_norm = 1, .z_threshold = 6, .z_decay = 0.9, .z_warmup = 20});
    for (int i = 0; i < 30; ++i) judge.step(50 + i % 2, 10, 1 + 0.1 * (i % 3));
    const std::vector<double> before = op::load(judge.states());
    judge.step(step.loss_sum, step.targets, step.norm);
    std::vector<double> want = before;
    want[op::skipped_total] = 1;
    want[op::skipped_in_a_row] = 1;
    EXPECT_EQ(op::load(judge.states()), want) << "reason " << step.reason;
    EXPECT_EQ(judge.control(op::apply), 0);
    EXPECT_EQ(judge.control(op::reason), static_cast<float>(step.reason));
    judge.step(step.loss_sum, step.targets, step.norm);
    EXPECT_EQ(judge.state(op::skipped_in_a_row), 2);
    judge.step(50, 10, 1);
    EXPECT_EQ(judge.state(op::skipped_in_a_row), 0);
    EXPECT_EQ(judge.state(op::skipped_total), 2);
    EXPECT_EQ(judge.state(op::update_count), 31);
  }
}

// Without go nothing of the state changes, whatever the step's numbers are, and the next step goes on from
// it.
TEST(Decide, without_go_a_step_is_as_if_it_had_not_been_issued) {
  const op::DecideSpec spec{.clip_norm = 1, .z_threshold = 6, .z_decay = 0.9, .z_warmup = 20};
  for (const double loss_sum : {50.0, 1e6, static_cast<double>(NAN)}) {
    Judge judge(spec), undisturbed(spec);
    for (Judge* each : {&judge, &undisturbed}) {
      for (int i = 0; i < 30; ++i) each->step(50 + i % 2, 10, 1);
      each->step(NAN, 10, 1);
    }
    const std::vector<double> before = op::load(judge.states());
    for (const double targets : {10.0, 0.0}) {
      judge.step(loss_sum, targets, 4, 0.1, 0);
      EXPECT_EQ(op::load(judge.states()), before);
      EXPECT_EQ(judge.control(op::apply), 0);
      EXPECT_EQ(judge.control(op::reason), op::kWithdrawn);
    }
    for (Judge* each : {&judge, &undisturbed}) each->step(51, 10, 1);
    EXPECT_EQ(op::load(judge.states()), op::load(undisturbed.states()));
  }
}

TEST(Decide, outliers_are_called_only_after_the_warmup_and_only_above) {
  op::DecideSpec spec{.clip_norm = 1, .z_threshold = 6, .z_decay = 0.9, .z_warmup = 20};
  Judge early(spec);
  for (int i = 0; i < 19; ++i) early.step(50 + i % 2, 10, 1);
  early.step(1000, 10, 1);
  EXPECT_EQ(early.control(op::reason), 0) << "before the warmup";
  Judge low(spec);
  for (int i = 0; i < 30; ++i) low.step(50 + i % 2, 10, 1);
  low.step(1, 10, 0.001);
  EXPECT_EQ(low.control(op::reason), 0) << "a better loss is no outlier";
  spec.z_threshold = 0;
  Judge off(spec);
  for (int i = 0; i < 30; ++i) off.step(50 + i % 2, 10, 1);
  off.step(1000, 10, 100);
  EXPECT_EQ(off.control(op::reason), 0) << "not switched on";
}

TEST(Decide, running_means_are_plain_until_the_decay_takes_over) {
  Judge judge({.z_decay = 0.75});  // a horizon of four steps
  const double losses[] = {4, 8, 6, 2, 10};
  for (const double loss : losses) judge.step(loss, 1, 1);
  EXPECT_FLOAT_EQ(judge.state(op::loss_mean), static_cast<float>(0.75 * 5 + 0.25 * 10));
}

struct Optimizer {
  Tensor master, exp_avg, exp_avg_sq, average;
};

Optimizer optimizer(Workbench& bench, int64_t n) {
  const Tensor master = bench.normal(f32, {n});
  return {master, bench.normal(f32, {n}, 0), bench.normal(f32, {n}, 0),
          bench.filled(f32, {n}, op::load(master))};
}

// Ten steps, the fourth of which is skipped, against a plain loop: t, the moments and the average must not
// see it.
TEST(AdamW, against_a_plain_loop) {
  const int64_t n = 37;
  const op::AdamWSpec spec{0.9, 0.95, 1e-8, 0.1};
  const double decay = 0.9, rate = 0.05, clip_norm = 2.0;
  Judge judge({.clip_norm = clip_norm});
  Workbench& bench = judge.bench();
  const Optimizer device = optimizer(bench, n);
  std::vector<double> w = op::load(device.master), m(n), v(n), average = w;
  int t = 0;
  for (int step = 0; step < 10; ++step) {
    const Tensor gradient = bench.normal(f32, {n});
    const std::vector<double> g = op::load(gradient);
    double norm = 0;
    for (const double x : g) norm += x * x;
    norm = std::sqrt(norm);
    judge.step(step == 3 ? NAN : 5.0, 1, norm, rate);
    run(op::adamw(gradient, judge.states(), judge.controls(), device.master, device.exp_avg,
                  device.exp_avg_sq, spec));
    run(op::ema(device.master, judge.controls(), device.average, {decay}));
    if (step == 3) continue;
    ++t;
    for (size_t i = 0; i < w.size(); ++i) {
      const double clipped = g[i] * std::min(1.0, clip_norm / (norm + 1e-6));
      m[i] = 0.9 * m[i] + 0.1 * clipped;
      v[i] = 0.95 * v[i] + 0.05 * clipped * clipped;
      const double m_hat = m[i] / (1 - std::pow(0.9, t)), v_hat = v[i] / (1 - std::pow(0.95, t));
      w[i] = w[i] - rate * 0.1 * w[i] - rate * m_hat / (std::sqrt(v_hat) + 1e-8);
      average[i] = decay * average[i] + (1 - decay) * w[i];
    }
  }
  EXPECT_EQ(judge.state(op::update_count), 9);
  EXPECT_EQ(judge.state(op::skipped_total), 1);
  const auto expect_near = [](const Tensor& tensor, const std::vector<double>& want, const char* name) {
    const std::vector<double> got = op::load(tensor);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(got[i], want[i], 3e-6) << name << "[" << i << "]";
    }
  };
  expect_near(device.master, w, "master");
  expect_near(device.exp_avg, m, "exp_avg");
  expect_near(device.exp_avg_sq, v, "exp_avg_sq");
  expect_near(device.average, average, "average");
}

// The first step by hand: the bias corrections cancel, so the weight moves by rate * (decay * w + sign(g)).
TEST(AdamW, the_first_step_by_hand) {
  Judge judge({});
  Workbench& bench = judge.bench();
  judge.step(5, 1, 1, 0.5);
  const Tensor w = bench.filled(f32, {3}, {1, -2, 4}), m = bench.normal(f32, {3}, 0),
               v = bench.normal(f32, {3}, 0);
  run(op::adamw(bench.filled(f32, {3}, {3, -7, 0}), judge.states(), judge.controls(), w, m, v, {}));
  EXPECT_NEAR(w.as<float>()[0], 1 - 0.5 * (0.1 * 1 + 1), 1e-6);
  EXPECT_NEAR(w.as<float>()[1], -2 - 0.5 * (0.1 * -2 - 1), 1e-6);
  EXPECT_NEAR(w.as<float>()[2], 4 - 0.5 * (0.1 * 4), 1e-6);
  EXPECT_NEAR(m.as<float>()[1], -0.7, 1e-6);
  EXPECT_NEAR(v.as<float>()[1], 2.45, 1e-5);
}

TEST(AdamW, a_skipped_step_changes_no_bit) {
  Judge judge({.clip_norm = 1});
  Workbench& bench = judge.bench();
  judge.step(NAN, 1, 1);
  const Tensor gradient = bench.filled(f32, {2}, {NAN, INFINITY});
  const Optimizer device = optimizer(bench, 2);
  const auto w = bytes_in(device.master), m = bytes_in(device.exp_avg), v = bytes_in(device.exp_avg_sq),
             average = bytes_in(device.average);
  run(op::adamw(gradient, judge.states(), judge.controls(), device.master, device.exp_avg, device.exp_avg_sq,
                {}));
  run(op::ema(device.master, judge.controls(), device.average, {0.5}));
  EXPECT_EQ(bytes_in(device.master), w);
  EXPECT_EQ(bytes_in(device.exp_avg), m);
  EXPECT_EQ(bytes_in(device.exp_avg_sq), v);
  EXPECT_EQ(bytes_in(device.average), average);
}

// What is far below a unit of bf16's last place must still add up: over many steps the mean of the rounded
// value follows the exact one, where rounding to nearest would never move.
TEST(StochasticRounding, is_unbiased) {
  const op::Rounding rounding{random_key(11, Purpose::round, "w"), {}};
  for (const float value : {1.0F + 0x1p-12F, 1.0F + 0x1p-8F, -3.14159F, 1e-20F, -7.3e30F}) {
    constexpr int64_t draws = 200'000;
    const auto low = static_cast<double>(from_bf16(op::round_stochastically(value, 0)));
    const auto high = static_cast<double>(from_bf16(op::round_stochastically(value, 0xffff)));
    double sum = 0;
    for (int64_t i = 0; i < draws; ++i) {
      const uint32_t word = op::rounding_word(rounding.key, 3, i);
      for (const uint32_t half : {word & 0xffffu, word >> 16}) {
        const auto got = static_cast<double>(from_bf16(op::round_stochastically(value, half)));
        EXPECT_TRUE(got == low || got == high);
        sum += (got - low) / (high - low);
      }
    }
    const double up = (static_cast<double>(value) - low) / (high - low), count = 2 * draws;
    EXPECT_NEAR(sum / count, up, 4.5 * std::sqrt(up * (1 - up) / count) + 1e-6) << value;
  }
  EXPECT_EQ(op::round_stochastically(1.5F, 0xffff), to_bf16(1.5F));  // what bf16 has stays
  EXPECT_EQ(op::round_stochastically(INFINITY, 0xffff), to_bf16(INFINITY));
  EXPECT_TRUE(std::isnan(from_bf16(op::round_stochastically(NAN, 0xffff))));
}

// The index of an element in the whole tensor, by hand: rows of 3 of the columns 6 to 8 of 11.
TEST(StochasticRounding, counts_elements_of_the_whole_tensor) {
  const op::RunIndex cut{.start = 4, .width = 3, .stride = 11, .column = 6};
  const int64_t want[] = {11 + 7, 11 + 8, 22 + 6, 22 + 7, 22 + 8, 33 + 6};
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(cut(i), want[i]) << i;
  EXPECT_EQ(cut.contiguous(0), 2);
  EXPECT_EQ(cut.contiguous(2), 3);
  const op::RunIndex run{.start = int64_t{1} << 40};
  EXPECT_EQ(run(5), (int64_t{1} << 40) + 5);
}

// Over many steps with a small share of each gradient: moments of bf16 stay near those of fp32.
TEST(AdamW, bf16_moments_follow_fp32_ones) {
  const int64_t n = 4096;
  Judge judge({});
  Workbench& bench = judge.bench();
  op::AdamWSpec spec{.beta1 = 0.99, .beta2 = 0.999};
  spec.rounding = {random_key(2, Purpose::round, "w"), {.start = 77}};
  const Optimizer exact = optimizer(bench, n);
  const Tensor w = bench.normal(f32, {n}), m = bench.filled(DType::bf16, {n}, std::vector<double>(n)),
               v = bench.filled(DType::bf16, {n}, std::vector<double>(n));
  double drift = 0;
  for (int step = 0; step < 400; ++step) {
    const Tensor gradient = bench.normal(f32, {n});
    judge.step(5, 1, 1, 1e-3);
    run(op::adamw(gradient, judge.states(), judge.controls(), exact.master, exact.exp_avg, exact.exp_avg_sq,
                  spec));
    run(op::adamw(gradient, judge.states(), judge.controls(), w, m, v, spec));
  }
  const std::vector<double> kept = op::load(v), want = op::load(exact.exp_avg_sq);
  for (size_t i = 0; i < kept.size(); ++i) drift += (kept[i] - want[i]) / want[i];
  // Each of some hundred steps adds a rounding of 2^-8 at most, of which few hundred are remembered.
  EXPECT_NEAR(drift / static_cast<double>(n), 0, 5e-3);
}

// As many pieces as one likes: whoever holds an element, its bits are the same.
TEST(AdamW, bf16_moments_do_not_depend_on_the_cut) {
  const int64_t n = 1000;
  Judge judge({});
  Workbench& bench = judge.bench();
  judge.step(5, 1, 1, 1e-2);
  const Tensor gradient = bench.normal(f32, {n}), start = bench.normal(DType::bf16, {n}, 0.1),
               square = bench.uniform(DType::bf16, {n}, 0, 0.1), weights = bench.normal(f32, {n});
  const auto update = [&](std::span<const int64_t> ends) {
    const Tensor w = bench.filled(f32, {n}, op::load(weights)),
                 m = bench.filled(DType::bf16, {n}, op::load(start)),
                 v = bench.filled(DType::bf16, {n}, op::load(square));
    int64_t first = 0;
    for (const int64_t end : ends) {
      op::AdamWSpec spec;
      spec.rounding = {random_key(2, Purpose::round, "w"), {.start = first}};
      const auto cut = [&](const Tensor& t) { return t.slice_rows(first, end - first); };
      run(op::adamw(cut(gradient), judge.states(), judge.controls(), cut(w), cut(m), cut(v), spec));
      first = end;
    }
    std::vector<std::byte> bytes = bytes_in(m);
    for (const std::byte byte : bytes_in(v)) bytes.push_back(byte);
    return bytes;
  };
  const int64_t whole[] = {n}, pieces[] = {1, 6, 130, 131, 999, n};
  EXPECT_EQ(update(whole), update(pieces));
}

}  // namespace
}  // namespace toroid::testing
