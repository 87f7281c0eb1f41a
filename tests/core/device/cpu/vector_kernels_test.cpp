// What the kernel contract cannot see: every target of the dispatch, accuracy where fp32 is asked for, and
// bits that depend neither on the number of threads nor on how rows are split over calls.
#include "core/device/cpu/vector_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "core/op/activation.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/norm.h"
#include "core/op/reduce.h"
#include "core/op/reference.h"
#include "core/op/rope.h"
#include "core/op/update.h"
#include "tests/core/device/cpu/targets.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

const DeviceKernels& kernels() {
  static const DeviceKernels registry = [] {
    DeviceKernels made;
    cpu::add_vector_kernels(made);
    return made;
  }();
  return registry;
}

class VectorKernels : public ::testing::TestWithParam<Target> {
 protected:
  OnlyTarget only_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, VectorKernels, ::testing::ValuesIn(targets_here()),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(VectorKernels, CastRoundsToNearestEvenAndKeepsNaN) {
  Workbench bench(&kernels());
  // Every upper half with lower halves below, at and above the tie.
  constexpr uint32_t kLower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  const int64_t n = int64_t{0x10000} * static_cast<int64_t>(std::size(kLower)) + 5;
  const Tensor x = bench.output(DType::f32, {n}), y = bench.output(DType::bf16, {n});
  for (int64_t i = 0; i < n; ++i) {
    const auto upper = static_cast<uint32_t>(i / 6) << 16;
    x.as<uint32_t>()[i] = upper | kLower[i % 6];
  }
  bench.run(op::cast(x, y), 2);
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(y.as<uint16_t>()[i], to_bf16(x.as<float>()[i])) << std::hex << x.as<uint32_t>()[i];
  }
}

TEST_P(VectorKernels, ActivationIsExactToRoundingInFp32) {
  // The fallback has no fused multiply-add, and so not the last digits of the exponent.
  const double bound = GetParam().name == "scalar" ? 1e-5 : 5e-7;
  for (const op::Activation activation : op::all_activations()) {
    const double reach = 80;
    Workbench bench(&kernels());
    const int64_t n = 400001;
    const Tensor z = bench.output(DType::f32, {1, n}), y = bench.output(DType::f32, {1, n});
    for (int64_t i = 0; i < n; ++i) {
      z.as<float>()[i] =
          static_cast<float>(reach * (2.0 * static_cast<double>(i) / static_cast<double>(n - 1) - 1));
    }
    bench.run(op::activate(z, y, {.activation = activation, .gated = false}));
    double worst = 0, at = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double want = op::description_of(activation).at(z.as<float>()[i]).value;
      if (std::abs(want) < 1e-30) continue;
      const double error = std::abs(y.as<float>()[i] - want) / std::abs(want);
      if (error > worst) worst = error, at = z.as<float>()[i];
    }
    EXPECT_LT(worst, bound) << op::description_of(activation).name << " at " << at;
  }
}

TEST_P(VectorKernels, SoftcapIsExactToRoundingInFp32) {
  Workbench bench(&kernels());
  const Tensor x = bench.normal(DType::f32, {20000}, 40), y = bench.output(DType::f32, {20000});
  bench.run(op::softcap(x, y, {.cap = 30}));
  for (int64_t i = 0; i < 20000; ++i) {
    const double want = 30 * std::tanh(x.as<float>()[i] / 30.0);
    ASSERT_NEAR(y.as<float>()[i], want, 5e-7 * std::abs(want)) << x.as<float>()[i];
  }
}

TEST_P(VectorKernels, NaNAndInfinityAreNotLost) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const auto type : {DType::f32, DType::bf16}) {
      Workbench bench(&kernels());
      std::vector<double> values(37, 0.5);
      values[5] = values[36] = static_cast<double>(value);
      const Tensor x = bench.filled(type, {1, 37}, values),
                   w = bench.filled(type, {37}, std::vector(37, 0.0));
      const Tensor y = bench.output(type, {1, 37});
      const auto all_finite = [&](const Tensor& t) {
        for (const double v : op::load(t)) {
          if (!std::isfinite(v)) return false;
        }
        return true;
      };
      bench.run(op::rms_norm(x, w, y, {}, {}));
      EXPECT_FALSE(all_finite(y));
      for (const op::Activation activation : op::all_activations()) {
        bench.run(op::activate(x, y, {.activation = activation, .gated = false}));
        EXPECT_FALSE(all_finite(y)) << op::description_of(activation).name;
      }
    }
  }
}

// Builds a call whose passes are long enough to be shared among threads.
using Make = std::function<Call(Workbench&, DType)>;

struct Case {
  const char* name;
  Make make;
};

Tensor weight(Workbench& b, DType type, int64_t n) {
  return b.normal(type, {n}, 0.1);
}

std::vector<Case> cases() {
  constexpr int64_t M = 403, D = 333;
  const op::RopeSpec heads{.heads = 4, .kv_heads = 2, .head_dim = 34};
  constexpr int64_t kQkv = 8 * 34;
  return {
      {"rms_norm",
       [=](Workbench& b, DType t) {
         return op::rms_norm(b.normal(t, {M, D}), weight(b, t, D), b.output(t, {M, D}),
                             b.output(DType::f32, {M}), {});
       }},
      {"rms_norm_grad",
       [=](Workbench& b, DType t) {
         return op::rms_norm_grad(b.normal(t, {M, D}), b.normal(t, {M, D}), weight(b, t, D),
                                  b.uniform(DType::f32, {M}, 0.5, 2), b.normal(t, {M, D}),
                                  b.output(t, {M, D}), b.normal(DType::f32, {D}), b.output(t, {M, D}), {});
       }},
      {"residual_norm",
       [=](Workbench& b, DType t) {
         return op::residual_norm(b.normal(t, {M, D}), b.normal(t, {M, D}), weight(b, t, D), weight(b, t, D),
                                  b.output(t, {M, D}), b.output(t, {M, D}), b.output(DType::f32, {M}),
                                  b.output(DType::f32, {M}), {});
       }},
      {"activate",
       [=](Workbench& b, DType t) {
         return op::activate(b.normal(t, {M, 2 * D}), b.output(t, {M, D}), {});
       }},
      {"activate_grad",
       [=](Workbench& b, DType t) {
         return op::activate_grad(b.normal(t, {M, D}), b.normal(t, {M, 2 * D}), b.output(t, {M, 2 * D}),
                                  b.output(t, {M, D}), {});
       }},
      {"rope",
       [=](Workbench& b, DType t) {
         return op::rope(b.normal(t, {M, kQkv}), b.uniform(DType::f32, {M, 34}, -1, 1), weight(b, t, 34),
                         weight(b, t, 34), b.output(t, {M, kQkv}), b.output(DType::f32, {M, 6}), heads);
       }},
      {"rope_grad",
       [=](Workbench& b, DType t) {
         return op::rope_grad(b.normal(t, {M, kQkv}), b.uniform(DType::f32, {M, 34}, -1, 1),
                              b.normal(t, {M, kQkv}), weight(b, t, 34), weight(b, t, 34),
                              b.uniform(DType::f32, {M, 6}, 0.5, 2), b.output(t, {M, kQkv}),
                              b.normal(DType::f32, {34}), b.normal(DType::f32, {34}), heads);
       }},
      {"rope_table",
       [=](Workbench& b, DType) {
         return op::rope_table(b.integers({M}, 0, 131072), b.output(DType::f32, {M, 256}), {});
       }},
      {"embed_grad",
       [=](Workbench& b, DType t) {
         return op::embed_grad(b.integers({M}, 0, 60), b.normal(t, {M, D}), b.normal(DType::f32, {50, D}),
                               {.scale = 18.3, .first_row = 4});
       }},
      {"sum",
       [=](Workbench& b, DType) {
         return op::sum(b.normal(DType::f32, {100001}), b.normal(DType::f32, {1}), {.accumulate = true});
       }},
      {"sum_squares",
       [=](Workbench& b, DType) {
         return op::sum_squares(b.normal(DType::f32, {100001}), b.output(DType::f32, {25}));
       }},
      {"init_normal",
       [=](Workbench& b, DType t) {
         return op::init_normal(b.output(t, {30001}), {random_key(7, Purpose::initialise, "w"), 13, 0.02});
       }},
      {"adamw",
       [=](Workbench& b, DType t) {
         constexpr int64_t n = 30001;
         const Tensor state = b.filled(DType::f32, {op::kStateSize}, {3, 0, 0, 0, 0, 0, 0, 0});
         const Tensor control = b.filled(DType::f32, {op::kControlSize}, {1, 0.5, 1e-3, 1, 1, 1, 0});
         op::AdamWSpec spec;
         spec.rounding = {random_key(7, Purpose::round, "w"), {.start = 6}};
         return op::adamw(b.normal(DType::f32, {n}), state, control, b.normal(DType::f32, {n}),
                          b.normal(t, {n}, 0.1), b.uniform(t, {n}, 0, 0.1), spec);
       }},
      {"ema",
       [=](Workbench& b, DType t) {
         const Tensor state = b.filled(DType::f32, {op::kStateSize}, {3, 0, 0, 0, 0, 0, 0, 0});
         const Tensor control = b.filled(DType::f32, {op::kControlSize}, {1, 0.5, 1e-3, 1, 1, 1, 0});
         return op::ema(b.normal(DType::f32, {30001}), control, b.normal(t, {30001}), {}, state);
       }},
  };
}

// Every target draws the same words and rounds by them: an average that takes all of the master is exact
// before it is rounded.
TEST_P(VectorKernels, StochasticRoundingIsTheReferences) {
  for (const op::RunIndex& index : {op::RunIndex{}, op::RunIndex{.start = 4097},
                                    op::RunIndex{.start = 5, .width = 37, .stride = 90, .column = 6}}) {
    for (const int64_t n : {1, 3, 1023, 1024, 5001}) {
      Workbench bench(&kernels());
      const op::Rounding rounding{random_key(5, Purpose::round, "ema w"), index};
      const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {9, 0, 0, 0, 0, 0, 0, 0});
      const Tensor control = bench.filled(DType::f32, {op::kControlSize}, {1, 1, 1, 1, 1, 1, 0});
      const Tensor master = bench.normal(DType::f32, {n}), average = bench.normal(DType::bf16, {n});
      master.as<float>()[n / 2] = INFINITY;
      bench.run(op::ema(master, control, average, {0, rounding}, state), 2);
      for (int64_t i = 0; i < n; ++i) {
        const uint32_t word = op::rounding_word(rounding.key, 9, index(i));
        const uint16_t want = op::round_stochastically(master.as<float>()[i], word & 0xffffu);
        ASSERT_EQ(average.as<uint16_t>()[i], want) << "element " << i << " of " << n;
      }
    }
  }
}

TEST_P(VectorKernels, BitsDoNotDependOnThreads) {
  for (const Case& tested : cases()) {
    for (const auto type : {DType::f32, DType::bf16}) {
      Workbench one(&kernels());
      const Call expected = tested.make(one, type);
      one.run(expected, 1);
      for (const int threads : {2, 5}) {
        Workbench many(&kernels());
        const Call call = tested.make(many, type);
        many.run(call, threads);
        EXPECT_TRUE(many.guards_intact()) << tested.name;
        for (size_t i = 0; i < call.operands.size(); ++i) {
          ASSERT_EQ(bytes_in(call[i]), bytes_in(expected[i]))
              << tested.name << ", operand " << i << ", " << threads << " threads";
        }
      }
    }
  }
}

// Halves of a power-of-two number of token blocks give the two operands of the tree's last addition.
TEST_P(VectorKernels, NormGradientSplitsOverCallsByTheTree) {
  constexpr int64_t M = 512, D = 77;
  Workbench bench(&kernels());
  const Tensor dy = bench.normal(DType::bf16, {M, D}), x = bench.normal(DType::bf16, {M, D}),
               w = bench.normal(DType::bf16, {D}), rstd = bench.uniform(DType::f32, {M}, 0.5, 2),
               dx = bench.output(DType::bf16, {M, D}), split_dx = bench.output(DType::bf16, {M, D});
  const std::vector<double> zeros(D, 0.0);
  const Tensor whole = bench.filled(DType::f32, {D}, zeros);
  bench.run(op::rms_norm_grad(dy, x, w, rstd, {}, dx, whole, {}, {}), 2);
  std::array<Tensor, 2> half;
  for (int64_t h = 0; h < 2; ++h) {
    half[static_cast<size_t>(h)] = bench.filled(DType::f32, {D}, zeros);
    const auto part = [&](const Tensor& t) { return t.slice_rows(h * M / 2, M / 2); };
    bench.run(op::rms_norm_grad(part(dy), part(x), w, part(rstd), {}, part(split_dx),
                                half[static_cast<size_t>(h)], {}, {}));
  }
  bench.run(op::add(half[1], half[0]));
  EXPECT_EQ(bytes_in(half[0]), bytes_in(whole));
  EXPECT_EQ(bytes_in(split_dx), bytes_in(dx));
}

TEST_P(VectorKernels, InitialiserIsTheGeneratorWhereverItStarts) {
  const RandomKey key = random_key(3, Purpose::initialise, "layers.0.qkv", 0);
  for (const int64_t first : {int64_t{0}, int64_t{1}, int64_t{6}, (int64_t{1} << 34) + 3}) {
    Workbench bench(&kernels());
    const Tensor x = bench.output(DType::f32, {101});
    bench.run(op::init_normal(x, {key, first, 0.02}));
    for (int64_t i = 0; i < 101; ++i) {
      const double want = 0.02 * static_cast<double>(normal(key, static_cast<uint64_t>(first + i)));
      ASSERT_NEAR(x.as<float>()[i], want, 1e-7 * std::abs(want) + 1e-12) << first << " + " << i;
    }
  }
}

// The table may be the fp32 masters while x is in the compute type.
TEST_P(VectorKernels, EmbedTakesATableOfAnotherType) {
  for (const DType table_type : {DType::f32, DType::bf16}) {
    const DType x_type = table_type == DType::f32 ? DType::bf16 : DType::f32;
    Workbench fast(&kernels()), slow;
    const auto make = [&](Workbench& b) {
      return op::embed(b.integers({19}, 0, 40), b.normal(table_type, {37, 45}), b.output(x_type, {19, 45}),
                       {.scale = 6.7, .first_row = 2});
    };
    const Call call = make(fast), expected = make(slow);
    fast.run(call);
    slow.run(expected);
    EXPECT_EQ(bytes_in(call[2]), bytes_in(expected[2]));
  }
}

TEST_P(VectorKernels, SkippedStepLeavesWeightsAlone) {
  Workbench bench(&kernels());
  const Tensor nan = bench.output(DType::f32, {33});
  const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {3, 0, 0, 0, 0, 0, 0, 0});
  const Tensor control = bench.filled(DType::f32, {op::kControlSize}, {0, 0, 1e-3, 1, 1, 1, 2});
  const Tensor w = bench.normal(DType::f32, {33}), m = bench.normal(DType::f32, {33}),
               v = bench.normal(DType::f32, {33});
  const auto before = bytes_in(w), m_before = bytes_in(m), v_before = bytes_in(v);
  bench.run(op::adamw(nan, state, control, w, m, v, {}));
  bench.run(op::ema(nan, control, v, {}));
  EXPECT_EQ(bytes_in(w), before);
  EXPECT_EQ(bytes_in(m), m_before);
  EXPECT_EQ(bytes_in(v), v_before);
}

}  // namespace
}  // namespace toroid::testing
