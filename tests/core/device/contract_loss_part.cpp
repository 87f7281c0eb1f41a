// The loss of a vocabulary in parts: loss_statistics, loss_merge and loss_part_grad. M tokens, V rows of the
// table here, D d_model.
#include <algorithm>
#include <cmath>

#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/reference.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;
constexpr DType kTypes[] = {DType::f32, DType::bf16};

struct PartCase {
  int64_t M, V, D, block, first, valid;
  double softcap = 0;
};
// Parts in the middle, padded ones, larger than a piece.
constexpr PartCase kCases[] = {{0, 8, 4, 512, 0, 8},
                               {1, 4, 1, 512, 3, 4},
                               {33, 100, 48, 16, 100, 100},
                               {17, 64, 64, 4, 0, 61, 30.0},
                               {64, 132, 32, 512, 33, 130, 3.0},
                               {20, 8500, 8, 16, 9000, 8400}};

op::LossPartSpec spec_of(const PartCase& c) {
  return {c.softcap, c.block, c.first, c.valid};
}

struct Inputs {
  Tensor h, table, targets;
};
// Targets on both sides of the part; every third token is masked. What pads the table must not matter.
Inputs inputs_of(Workbench& bench, DType type, const PartCase& c) {
  Inputs in{bench.normal(type, {c.M, c.D}), bench.normal(type, {c.V, c.D}, 0.5),
            bench.integers({c.M}, std::max<int64_t>(0, c.first - c.V / 2), c.first + c.valid - 1)};
  for (int64_t m = 0; m < c.M; m += 3) in.targets.as<int32_t>()[m] = -1;
  return in;
}

TEST_P(KernelContract, loss_statistics) {
  if (!has(op::loss_statistics_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const PartCase& c : kCases) {
      for (const int64_t slices : {1, 4}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Inputs in = inputs_of(bench, type, c);
              // Odd cases write columns of a wider matrix.
              const int64_t before = c.M % 2 == 0 ? 0 : 3;
              const Tensor wide = bench.output(f32, {3 * slices, before + c.M + before});
              Call call = op::loss_statistics(in.h, bench.packed(in.table, Layout::packed_forward),
                                              in.targets, wide.slice_columns(before, c.M), spec_of(c));
              if (slices > 1) call.tiles = {true, slices, 16};
              return call;
            },
            {.length = static_cast<double>(c.V + c.D)}, std::to_string(slices) + " slices");
      }
    }
  }
}

TEST_P(KernelContract, loss_merge) {
  if (!has(op::loss_merge_kind)) GTEST_SKIP();
  for (const int64_t M : {0, 1, 17, 100}) {
    for (const int64_t slices : {1, 2, 3, 16}) {
      expect_agreement(
          [&](Workbench& bench) {
            std::vector<double> values;
            const std::vector<double> max = op::load(bench.normal(f32, {slices, M}, 4)),
                                      sum = op::load(bench.uniform(f32, {slices, M}, 1, 9)),
                                      hit = op::load(bench.normal(f32, {slices, M}));
            for (int64_t s = 0; s < slices; ++s) {
              // The second slice holds nothing but padding.
              for (int64_t m = 0; m < M; ++m)
                values.push_back(s == 1 ? -INFINITY : max[static_cast<size_t>(s * M + m)]);
              for (int64_t m = 0; m < M; ++m)
                values.push_back(s == 1 ? 0 : sum[static_cast<size_t>(s * M + m)]);
              for (int64_t m = 0; m < M; ++m) values.push_back(s == 0 ? hit[static_cast<size_t>(m)] : 0);
            }
            return op::loss_merge(bench.filled(f32, {3 * slices, M}, values), bench.integers({M}, -1, 5),
                                  bench.output(f32, {M}), bench.output(f32, {2, M}));
          },
          // The loss is a difference of two of this size.
          {.length = static_cast<double>(slices), .scale = 10});
    }
  }
}

TEST_P(KernelContract, loss_part_grad) {
  if (!has(op::loss_part_grad_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const PartCase& c : kCases) {
      for (const bool tiles : {false, true}) {
        for (const DType out : {type, f32}) {
          expect_agreement(
              [&](Workbench& bench) {
                const Inputs in = inputs_of(bench, type, c);
                const Tensor scale = bench.filled(f32, {1}, {1.0 / 64}),
                             norms = bench.uniform(f32, {2, c.M + 4}, 5, 9).slice_columns(2, c.M);
                Call call = op::loss_part_grad(in.h, bench.packed(in.table, Layout::packed_forward),
                                               bench.packed(in.table, Layout::packed_backward), in.targets,
                                               scale, norms, bench.output(out, {c.M, c.D}),
                                               bench.normal(f32, {c.V, c.D}, 0.01), spec_of(c));
                if (tiles) call.tiles = {true, 4, 16};
                return call;
              },
              {.length = static_cast<double>(c.V + c.D + c.M), .intermediate = type},
              tiles ? "in tiles" : "");
        }
      }
    }
  }
}

// Nothing but padding: no logit, no gradient.
TEST_P(KernelContract, a_part_without_tokens_says_so) {
  if (!has(op::loss_statistics_kind)) GTEST_SKIP();
  for (const bool tiles : {false, true}) {
    Workbench bench(devices());
    const int64_t M = 5, V = 12, D = 8;
    const Tensor h = bench.normal(f32, {M, D}), table = bench.normal(f32, {V, D}),
                 targets = bench.integers({M}, -1, 30), statistics = bench.output(f32, {3, M}),
                 dh = bench.output(f32, {M, D}), d_table = bench.normal(f32, {V, D}, 0),
                 scale = bench.filled(f32, {1}, {0.1}), norms = bench.uniform(f32, {2, M}, 1, 2);
    const op::LossPartSpec spec{0, 4, 31, 0};
    const Tensor forward = bench.packed(table, Layout::packed_forward);
    Call told = op::loss_statistics(h, forward, targets, statistics, spec);
    Call grad = op::loss_part_grad(h, forward, bench.packed(table, Layout::packed_backward), targets, scale,
                                   norms, dh, d_table, spec);
    told.tiles.deterministic = grad.tiles.deterministic = tiles;
    bench.run(told);
    bench.run(grad);
    const std::vector<double> values = op::load(statistics);
    for (size_t m = 0; m < static_cast<size_t>(M); ++m) {
      EXPECT_EQ(values[m], -INFINITY);
      EXPECT_EQ(values[static_cast<size_t>(M) + m], 0);
      EXPECT_EQ(values[2 * static_cast<size_t>(M) + m], 0);
    }
    for (const double value : op::load(dh)) EXPECT_EQ(value, 0);
    for (const double value : op::load(d_table)) EXPECT_EQ(value, 0);
  }
}

TEST_P(KernelContract, a_nan_reaches_the_loss_by_parts) {
  if (!has(op::loss_statistics_kind)) GTEST_SKIP();
  for (const bool tiles : {false, true}) {
    Workbench bench(devices());
    const int64_t M = 5, V = 40, D = 8;
    const Tensor h = bench.normal(f32, {M, D}), targets = bench.integers({M}, 0, V - 1),
                 statistics = bench.output(f32, {3, M}), losses = bench.output(f32, {M}),
                 norms = bench.output(f32, {2, M});
    h.as<float>()[2 * D] = NAN;
    Call told = op::loss_statistics(h, bench.packed(bench.normal(f32, {V, D}), Layout::packed_forward),
                                    targets, statistics, {0, 4, 0, V});
    told.tiles.deterministic = tiles;
    bench.run(told);
    bench.run(op::loss_merge(statistics, targets, losses, norms));
    for (int64_t m = 0; m < M; ++m) EXPECT_EQ(std::isnan(losses.as<float>()[m]), m == 2);
  }
}

// Cut into parts and merged, deterministic mode gives the bits of loss_grad.
TEST_P(DeterministicContract, deterministic_loss_by_parts) {
  if (!has(op::loss_statistics_kind) || !has(op::loss_grad_kind)) GTEST_SKIP();
  constexpr int64_t kSlices = 8, M = 40, V = 93, D = 40, kRows = (V + kSlices - 1) / kSlices;
  for (const DType type : kTypes) {
    for (const double softcap : {0.0, 5.0}) {
      Workbench bench(devices());
      std::vector<double> values = op::load(bench.normal(type, {V, D}, 0.3));
      const Tensor table = bench.filled(type, {V, D}, values), h = bench.normal(type, {M, D}),
                   targets = bench.integers({M}, -1, V - 1), scale = bench.filled(f32, {1}, {1.0 / 64}),
                   losses = bench.output(f32, {M}), dh = bench.output(type, {M, D}),
                   d_table = bench.normal(f32, {V, D}, 0);
      const auto in_tiles = [](Call call, int64_t slices) {
        call.tiles = {true, slices, 16};
        return call;
      };
      bench.run(in_tiles(op::loss_grad(h, bench.packed(table, Layout::packed_forward),
                                       bench.packed(table, Layout::packed_backward), targets, scale, losses,
                                       dh, d_table, {softcap, 512}),
                         kSlices));
      values.resize(static_cast<size_t>(kSlices * kRows * D), 0);
      for (const int64_t parts : {2, 4, 8}) {
        SCOPED_TRACE(std::to_string(parts) + " parts");
        const int64_t rows = kSlices * kRows / parts, slices = kSlices / parts;
        const Tensor statistics = bench.output(f32, {3 * kSlices, M}), merged = bench.output(f32, {M}),
                     norms = bench.output(f32, {2, M});
        std::vector<Tensor> forward, backward, partial;
        std::vector<op::LossPartSpec> specs;
        for (int64_t i = 0; i < parts; ++i) {
          const auto first = static_cast<size_t>(i * rows * D), count = static_cast<size_t>(rows * D);
          const Tensor part = bench.filled(type, {rows, D}, std::span(values).subspan(first, count));
          forward.push_back(bench.packed(part, Layout::packed_forward));
          backward.push_back(bench.packed(part, Layout::packed_backward));
          specs.push_back({softcap, 512, i * rows, std::clamp<int64_t>(V - i * rows, 0, rows)});
          bench.run(
              in_tiles(op::loss_statistics(h, forward.back(), targets,
                                           statistics.slice_rows(3 * slices * i, 3 * slices), specs.back()),
                       slices),
              2);
        }
        bench.run(op::loss_merge(statistics, targets, merged, norms));
        EXPECT_EQ(bytes_in(merged), bytes_in(losses));
        for (size_t i = 0; i < forward.size(); ++i) {
          const Tensor d_part = bench.normal(f32, {rows, D}, 0);
          partial.push_back(bench.output(f32, {M, D}));
          bench.run(in_tiles(op::loss_part_grad(h, forward[i], backward[i], targets, scale, norms,
                                                partial.back(), d_part, specs[i]),
                             slices),
                    2);
          if (specs[i].valid > 0) {
            EXPECT_EQ(bytes_in(d_part.slice_rows(0, specs[i].valid)),
                      bytes_in(d_table.slice_rows(specs[i].first_token, specs[i].valid)));
          }
        }
        for (size_t step = 1; step < partial.size(); step *= 2) {
          for (size_t i = 0; i + step < partial.size(); i += 2 * step) {
            bench.run(op::add(partial[i + step], partial[i]));
          }
        }
        const Tensor sum = bench.output(type, {M, D});
        bench.run(op::cast(partial[0], sum));
        EXPECT_EQ(bytes_in(sum), bytes_in(dh));
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
