// The loss of deterministic mode with its vocabulary cut by hand into parts, as a model axis cuts it: each
// part takes its own logits, normalisers and gradients; the normalisers of canonical slices meet in pairs,
// and so do the parts of dh. M tokens, V vocabulary, D d_model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/loss_rows.h"
#include "core/device/cpu/matmul_deterministic.h"
#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;
constexpr int64_t kSlices = 8;
constexpr int64_t M = 48, D = 40, V = kSlices * (cpu::kPanelColumns + 6);
constexpr float kScale = 1.0F / 64;

struct Normaliser {
  float max = 0, sum = 0;
};

Normaliser meet(Normaliser a, Normaliser b) {
  const float top = std::max(a.max, b.max);
  return {top, a.sum * std::exp(a.max - top) + b.sum * std::exp(b.max - top)};
}

// Of some columns of one row of logits, window by window.
Normaliser normaliser_of(const float* logits, int64_t columns) {
  Normaliser all;
  for (int64_t first = 0; first < columns; first += cpu::kPanelColumns) {
    std::vector<float> window(logits + first, logits + std::min(columns, first + cpu::kPanelColumns));
    Normaliser here;
    cpu::exponentials({.z = window.data(),
                       .rows = 1,
                       .columns = static_cast<int64_t>(window.size()),
                       .max = &here.max,
                       .sum = &here.sum});
    all = first == 0 ? here : meet(all, here);
  }
  return all;
}

template <class T, class Combine>
T in_pairs(std::vector<T> parts, Combine combine) {
  for (size_t step = 1; step < parts.size(); step *= 2) {
    for (size_t i = 0; i + step < parts.size(); i += 2 * step) parts[i] = combine(parts[i], parts[i + step]);
  }
  return parts.front();
}

Call in_tiles(Call call, int64_t slices) {
  call.tiles = {true, slices, 16};
  return call;
}

TEST(VocabularyCut, by_hand_gives_the_same_bits) {
  const auto kernels = make_cpu_kernels(2);
  Workbench bench(kernels.get());
  const Tensor h = bench.normal(f32, {M, D}), table = bench.normal(f32, {V, D}, 0.3),
               targets = bench.integers({M}, -1, V - 1), scale = bench.filled(f32, {1}, {kScale}),
               losses = bench.output(f32, {M}), dh = bench.output(f32, {M, D}),
               d_table = bench.normal(f32, {V, D}, 0);
  bench.run(in_tiles(op::loss_grad(h, bench.packed(table, Layout::packed_forward),
                                   bench.packed(table, Layout::packed_backward), targets, scale, losses, dh,
                                   d_table, {}),
                     kSlices),
            2);
  for (const int64_t parts : {1, 2, 4, 8}) {
    SCOPED_TRACE("cut into " + std::to_string(parts));
    const int64_t rows = V / parts, slices = kSlices / parts, width = V / kSlices;
    std::vector<Tensor> logits;
    for (int64_t part = 0; part < parts; ++part) {
      logits.push_back(bench.output(f32, {M, rows}));
      const Tensor weights = bench.packed(table.slice_rows(part * rows, rows), Layout::packed_forward);
      bench.run(in_tiles(op::matmul(h, weights, logits.back()), 1));
    }
    for (int64_t m = 0; m < M; ++m) {
      std::vector<Normaliser> of_parts;
      for (int64_t part = 0; part < parts; ++part) {
        std::vector<Normaliser> of_slices;
        const float* row = logits[static_cast<size_t>(part)].as<float>() + m * rows;
        for (int64_t s = 0; s < slices; ++s) of_slices.push_back(normaliser_of(row + s * width, width));
        of_parts.push_back(in_pairs(of_slices, meet));
      }
      const Normaliser all = in_pairs(of_parts, meet);
      const float lse = all.max + std::log(all.sum);
      const int64_t target = targets.as<int32_t>()[m];
      float loss = 0;
      for (int64_t v = 0; v < V; ++v) {
        float& z = logits[static_cast<size_t>(v / rows)].as<float>()[m * rows + v % rows];
        if (v == target) loss = lse - z;
        const float p = std::exp(z - lse) - (v == target ? 1.0F : 0.0F);
        z = target < 0 ? 0 : p * kScale;  // the logit's gradient
      }
      ASSERT_EQ(losses.as<float>()[m], loss) << "token " << m;
    }
    std::vector<Tensor> dh_parts;
    for (int64_t part = 0; part < parts; ++part) {
      const Tensor &d_logits = logits[static_cast<size_t>(part)], own = table.slice_rows(part * rows, rows),
                   own_gradient = bench.output(f32, {rows, D});
      dh_parts.push_back(bench.output(f32, {M, D}));
      bench.run(in_tiles(op::matmul_dx(d_logits, bench.packed(own, Layout::packed_backward), dh_parts.back()),
                         slices));
      bench.run(in_tiles(op::matmul_dw(d_logits, h, own_gradient, {}), 1));
      EXPECT_EQ(op::load(own_gradient), op::load(d_table.slice_rows(part * rows, rows)));
    }
    const Tensor sum = in_pairs(dh_parts, [&](const Tensor& a, const Tensor& b) {
      bench.run(op::add(b, a));
      return a;
    });
    EXPECT_EQ(op::load(sum), op::load(dh));
  }
}

}  // namespace
}  // namespace toroid::testing
