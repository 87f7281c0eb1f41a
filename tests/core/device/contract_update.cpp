// Reductions, the verdict on a step and the update rules: all fp32 vectors of n elements.
#include <cmath>
#include <set>
#include <vector>

#include "core/op/checksum.h"
#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/momentum.h"
#include "core/op/outer.h"
#include "core/op/reduce.h"
#include "core/op/reference.h"
#include "core/op/update.h"
#include "core/op/wire.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

constexpr int64_t kLengths[] = {0, 1, 7, 16, 17, 255, 4095, 4096, 4097, 3 * 4096 + 5, 70001};

TEST_P(KernelContract, sum_squares) {
  if (!has(op::sum_squares_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    expect_agreement(
        [&](Workbench& bench) {
          const int64_t blocks = (n + op::kReduceBlock - 1) / op::kReduceBlock;
          return op::sum_squares(bench.normal(DType::f32, {n}), bench.output(DType::f32, {blocks}));
        },
        {.length = 16});
  }
}

TEST_P(KernelContract, checksum) {
  if (!has(op::checksum_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const int64_t arrays : {1, 3}) {
      const auto build = [&](Workbench& bench) {
        std::vector<Tensor> of;
        for (int64_t i = 0; i < arrays; ++i)
          of.push_back(bench.normal(i % 2 == 1 ? DType::bf16 : DType::f32, {n}));
        return op::checksum(of, bench.output(DType::i64, {arrays * op::checksum_blocks(n), 2}));
      };
      expect_agreement(build, {});
    }
  }
}

TEST_P(KernelContract, compare_checksums) {
  if (!has(op::compare_checksums_kind)) GTEST_SKIP();
  for (const int64_t n : {1, 2, 300, 1000}) {
    for (const std::vector<int64_t>& differing :
         {std::vector<int64_t>{}, std::vector<int64_t>{0}, std::vector<int64_t>{n - 1, n / 2}}) {
      const auto build = [&](Workbench& bench) {
        const Tensor expected = bench.output(DType::i64, {n, 2}), found = bench.output(DType::i64, {n, 2});
        for (int64_t i = 0; i < 2 * n; ++i) {
          expected.as<uint64_t>()[i] = found.as<uint64_t>()[i] =
              static_cast<uint64_t>(i + 1) * 0x9e3779b97f4a7c15u;
        }
        for (const int64_t row : differing) found.as<uint64_t>()[2 * row + 1] -= 77;
        return op::compare_checksums(expected, found, bench.output(DType::i64, {op::kDifferingSize}));
      };
      expect_agreement(build, {});
      Workbench bench(devices());
      const Call call = build(bench);
      bench.run(call);
      const std::set<int64_t> rows(differing.begin(), differing.end());
      EXPECT_EQ(call[2].as<const int64_t>()[op::Differing::count], static_cast<int64_t>(rows.size()));
      EXPECT_EQ(call[2].as<const int64_t>()[op::Differing::first], rows.empty() ? 0 : *rows.begin());
    }
  }
}

TEST_P(KernelContract, sum) {
  if (!has(op::sum_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const bool accumulate : {false, true}) {
      expect_agreement(
          [&](Workbench& bench) {
            const Tensor total = accumulate ? bench.normal(DType::f32, {1}) : bench.output(DType::f32, {1});
            return op::sum(bench.normal(DType::f32, {n}), total, {accumulate});
          },
          {.length = 16, .scale = std::sqrt(static_cast<double>(n))});
    }
  }
}

struct Step {
  double loss_sum, targets, partial, go = 1;
};
constexpr Step kSteps[] = {{50, 10, 0.3}, {50, 0, 0.3},      {NAN, 10, 0.3}, {50, 10, INFINITY},
                           {90, 10, 0.3}, {50, 10, 10000.0}, {50, 10, 0},    {50, 10, 0.3, 0}};

TEST_P(KernelContract, decide) {
  if (!has(op::decide_kind)) GTEST_SKIP();
  for (const Step& step : kSteps) {
    for (const int64_t P : {0, 1, 17, 4097}) {
      for (const double clip : {0.0, 0.5}) {
        expect_agreement(
            [&](Workbench& bench) {
              std::vector<double> partials(static_cast<size_t>(P), step.partial);
              // update_count, skipped, in a row, loss mean and square, norm mean and square, seen
              const Tensor state =
                  bench.filled(DType::f32, {op::kStateSize}, {150, 3, 2, 5, 25.01, 0.6, 0.5, 150});
              return op::decide(
                  bench.filled(DType::f32, {P}, partials), bench.filled(DType::f32, {1}, {step.loss_sum}),
                  bench.filled(DType::f32, {1}, {step.targets}), bench.filled(DType::f32, {1}, {3e-4}),
                  bench.filled(DType::f32, {1}, {step.go}), state,
                  bench.output(DType::f32, {op::kControlSize}), {clip, 6.0, 0.98, 100});
            },
            {.length = 16});
      }
    }
  }
}

Tensor control(Workbench& bench, bool apply) {
  return bench.filled(DType::f32, {op::kControlSize}, {apply ? 1.0 : 0.0, 0.7, 3e-2, 1.0, 5.0, 100.0, 0.0});
}

TEST_P(KernelContract, adamw) {
  if (!has(op::adamw_kind)) GTEST_SKIP();
  enum Copy { none, f32, bf16 };
  for (const int64_t n : kLengths) {
    for (const double t : {1.0, 2.0, 5000.0}) {
      for (const bool apply : {true, false}) {
        for (const Copy copy : {none, f32, bf16}) {
          if (copy != none && t != 2.0) continue;
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {t, 0, 0, 0, 0, 0, 0, 0});
                const Tensor to =
                    copy == none ? Tensor{} : bench.output(copy == f32 ? DType::f32 : DType::bf16, {n});
                return op::adamw(bench.normal(DType::f32, {n}), state, control(bench, apply),
                                 bench.normal(DType::f32, {n}), bench.normal(DType::f32, {n}, 0.1),
                                 bench.uniform(DType::f32, {n}, 0, 0.1), {}, to);
              },
              {});
        }
      }
    }
  }
}

constexpr int64_t kRoundedLengths[] = {0, 1, 17, 1025, 4097, 9001};  // a reference draws each word anew

// Runs of a tensor that begin anywhere, and rows that the model axis cut.
const std::vector<op::RunIndex>& run_indices() {
  static const std::vector<op::RunIndex> all = {
      {}, {.start = 4097}, {.start = int64_t{1} << 33}, {.start = 5, .width = 3, .stride = 11, .column = 6}};
  return all;
}

TEST_P(KernelContract, adamw_of_bf16_moments) {
  if (!has(op::adamw_kind)) GTEST_SKIP();
  for (const int64_t n : kRoundedLengths) {
    for (const op::RunIndex& index : run_indices()) {
      for (const bool apply : {true, false}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {7, 0, 0, 0, 0, 0, 0, 0});
              op::AdamWSpec spec;
              spec.rounding = {random_key(3, Purpose::round, "w"), index};
              return op::adamw(bench.normal(DType::f32, {n}), state, control(bench, apply),
                               bench.normal(DType::f32, {n}), bench.normal(DType::bf16, {n}, 0.1),
                               bench.uniform(DType::bf16, {n}, 0, 0.1), spec,
                               apply ? bench.output(DType::bf16, {n}) : Tensor{});
            },
            {});
      }
    }
  }
}

TEST_P(KernelContract, ema_of_a_bf16_average) {
  if (!has(op::ema_kind)) GTEST_SKIP();
  for (const int64_t n : kRoundedLengths) {
    for (const op::RunIndex& index : run_indices()) {
      for (const bool apply : {true, false}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {9, 0, 0, 0, 0, 0, 0, 0});
              return op::ema(bench.normal(DType::f32, {n}), control(bench, apply),
                             bench.normal(DType::bf16, {n}),
                             {0.99, {random_key(3, Purpose::round, "ema w"), index}}, state);
            },
            {});
      }
    }
  }
}

// Bit for bit: moments that lie between two values of bf16 far from either, so that no difference between
// arithmetics reaches the rounding, go up and down as core/op/stochastic.h says.
TEST_P(KernelContract, stochastic_rounding_is_by_the_index_in_the_tensor) {
  if (!has(op::ema_kind)) GTEST_SKIP();
  constexpr int64_t n = 3000;
  for (const op::RunIndex& index : run_indices()) {
    const op::Rounding rounding{random_key(5, Purpose::round, "ema w"), index};
    Workbench bench(devices());
    const std::vector<double> exact(static_cast<size_t>(n), 1 + 0x1p-9);  // a quarter of a unit above 1
    const Tensor average = bench.filled(DType::bf16, {n}, std::vector<double>(static_cast<size_t>(n), 1.0));
    const Tensor state = bench.filled(DType::f32, {op::kStateSize}, {9, 0, 0, 0, 0, 0, 0, 0});
    bench.run(
        op::ema(bench.filled(DType::f32, {n}, exact), control(bench, true), average, {0, rounding}, state));
    const std::vector<double> got = op::load(average);
    int64_t ups = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t word = op::rounding_word(rounding.key, 9, index(i));
      const auto want = static_cast<double>(from_bf16(
          op::round_stochastically(static_cast<float>(exact[static_cast<size_t>(i)]), word & 0xffffu)));
      ASSERT_EQ(got[static_cast<size_t>(i)], want) << i;
      ups += want > 1 ? 1 : 0;
    }
    EXPECT_NEAR(static_cast<double>(ups) / n, 0.25, 4 * std::sqrt(0.25 * 0.75 / n));
  }
}

TEST_P(KernelContract, momentum) {
  if (!has(op::momentum_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const bool nesterov : {true, false}) {
      for (const bool apply : {true, false}) {
        expect_agreement(
            [&](Workbench& bench) {
              return op::momentum(bench.normal(DType::f32, {n}), control(bench, apply),
                                  bench.normal(DType::f32, {n}), bench.output(DType::f32, {n}),
                                  {0.95, 0.05, nesterov});
            },
            {});
      }
    }
  }
}

TEST_P(KernelContract, descend) {
  if (!has(op::descend_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const DType type : {DType::f32, DType::bf16}) {
      for (const bool apply : {true, false}) {
        expect_agreement(
            [&](Workbench& bench) {
              return op::descend(bench.normal(type, {n}), control(bench, apply),
                                 bench.normal(DType::f32, {n}), {0.2, 0.1});
            },
            {});
      }
    }
  }
}

TEST_P(KernelContract, lion) {
  if (!has(op::lion_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const bool apply : {true, false}) {
      expect_agreement(
          [&](Workbench& bench) {
            const Tensor gradient = bench.normal(DType::f32, {n}), exp_avg = bench.normal(DType::f32, {n});
            if (n > 2) gradient.as<float>()[2] = exp_avg.as<float>()[2] = 0;  // no direction
            return op::lion(gradient, control(bench, apply), bench.normal(DType::f32, {n}), exp_avg,
                            {0.9, 0.99, 0.3});
          },
          {});
    }
  }
}

TEST_P(KernelContract, combine) {
  if (!has(op::combine_kind)) GTEST_SKIP();
  const DType types[] = {DType::f32, DType::bf16};
  for (const int64_t n : kLengths) {
    for (const DType x : types) {
      for (const DType y : types) {
        for (const DType out : types) {
          expect_agreement(
              [&](Workbench& bench) {
                return op::combine(bench.normal(x, {n}), bench.normal(y, {n}), bench.output(out, {n}),
                                   {-4.775, 2.0315});
              },
              {.scale = 8});
        }
      }
    }
  }
}

TEST_P(KernelContract, unit_norm) {
  if (!has(op::unit_norm_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const double square : {0.25, 0.0}) {
      for (const DType out : {DType::f32, DType::bf16}) {
        expect_agreement(
            [&](Workbench& bench) {
              const int64_t blocks = op::reduce_blocks(n);
              const std::vector<double> squares(static_cast<size_t>(blocks), square);
              return op::unit_norm(bench.normal(DType::f32, {n}), bench.filled(DType::f32, {blocks}, squares),
                                   bench.output(out, {n}), {1e-3});
            },
            {});
      }
    }
  }
}

TEST_P(KernelContract, ema) {
  if (!has(op::ema_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    for (const bool apply : {true, false}) {
      expect_agreement(
          [&](Workbench& bench) {
            return op::ema(bench.normal(DType::f32, {n}), control(bench, apply),
                           bench.normal(DType::f32, {n}), {0.999});
          },
          {});
    }
  }
}

// What travels has the same bits on every device, so nothing is left to a tolerance.
void expect_same_bits(Devices& devices, const Builder& build) {
  Workbench slow;
  const Call reference = build(slow);
  slow.run(reference);
  for (const int threads : {1, 2}) {
    Workbench fast(devices);
    const Call call = build(fast);
    fast.run(call, threads);
    EXPECT_TRUE(fast.guards_intact()) << describe(call);
    for (size_t i = 0; i < call.operands.size(); ++i) {
      EXPECT_EQ(bytes_in(call[i]), bytes_in(reference[i])) << describe(call) << ", operand " << i;
    }
  }
}

constexpr int64_t kShards[] = {0, 256, 4096, 5 * 4096, 18 * 4096};

TEST_P(KernelContract, compress) {
  if (!has(op::compress_kind)) GTEST_SKIP();
  for (const int64_t n : kShards) {
    for (const double size : {1e-35, 1e-20, 1.0, 1e30}) {
      for (const DType type : {DType::bf16, DType::u8}) {
        expect_same_bits(devices(), [&](Workbench& bench) {
          const Tensor x = bench.normal(DType::f32, {n}, size);
          if (n > 300) x.as<float>()[300] = static_cast<float>(6 * size);
          const int64_t wire = type == DType::u8 ? op::quantised_bytes(n) : n;
          return op::compress(x, bench.normal(DType::f32, {n}, 0.1 * size), bench.output(type, {wire}));
        });
      }
    }
  }
}

TEST_P(KernelContract, sum_wires) {
  if (!has(op::sum_wires_kind)) GTEST_SKIP();
  for (const int64_t n : kShards) {
    for (const int64_t pods : {1, 2, 5}) {
      for (const DType type : {DType::bf16, DType::u8}) {
        expect_same_bits(devices(), [&](Workbench& bench) {
          const int64_t wire = type == DType::u8 ? op::quantised_bytes(n) : n, stride = wire + 516;
          const Tensor wires = bench.output(type, {pods, wire}, stride);
          for (int64_t p = 0; p < pods; ++p) {
            Tensor row = wires.slice_rows(p, 1);
            row.shape = {wire};
            row.row_stride = 1;
            const Call fill =
                op::compress(bench.normal(DType::f32, {n}),
                             bench.filled(DType::f32, {n}, std::vector<double>(static_cast<size_t>(n))), row);
            fill.kind->reference(fill);
          }
          return op::sum_wires(wires, bench.output(DType::f32, {n}));
        });
      }
    }
  }
}

TEST_P(KernelContract, sum_wires_in_turn_and_as_a_tree) {
  if (!has(op::sum_wires_kind)) GTEST_SKIP();
  for (const int64_t n : {1, 7, 640, 1283}) {
    for (const int64_t ranks : {1, 2, 3, 4, 6, 8, 16, 17, 64}) {
      for (const DType type : {DType::f32, DType::bf16}) {
        for (const op::RowOrder order : {op::RowOrder::in_turn, op::RowOrder::tree}) {
          for (const int64_t gap : {0, 8, 3}) {
            expect_same_bits(devices(), [&](Workbench& bench) {
              const Tensor wires = bench.output(type, {ranks, n}, n + gap);
              for (int64_t r = 0; r < ranks; ++r) {
                Tensor row = wires.slice_rows(r, 1);
                row.shape = {n};
                row.row_stride = 1;
                const Call fill = op::cast(bench.normal(DType::f32, {n}), row);
                fill.kind->reference(fill);
              }
              return op::sum_wires(wires, bench.output(DType::f32, {n}), order);
            });
          }
        }
      }
    }
  }
}

TEST_P(KernelContract, outer_gradient) {
  if (!has(op::outer_gradient_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    expect_agreement(
        [&](Workbench& bench) {
          return op::outer_gradient(bench.normal(DType::f32, {n}), bench.normal(DType::f32, {n}),
                                    bench.output(DType::f32, {n}));
        },
        {});
  }
}

TEST_P(KernelContract, nesterov) {
  if (!has(op::nesterov_kind)) GTEST_SKIP();
  for (const int64_t n : kLengths) {
    expect_agreement(
        [&](Workbench& bench) {
          return op::nesterov(bench.normal(DType::f32, {n}), bench.normal(DType::f32, {n}),
                              bench.normal(DType::f32, {n}), bench.output(DType::f32, {n}), {0.7, 0.9, 3});
        },
        {.scale = 8});
  }
}

}  // namespace
}  // namespace toroid::testing
