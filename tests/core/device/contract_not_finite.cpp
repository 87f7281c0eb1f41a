// What is not a number is passed on: a step whose loss or gradient is not finite is skipped, so no kernel may
// lose it on the way, in a maximum or in a clamp.
#include <cmath>

#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/reduce.h"
#include "core/op/reference.h"
#include "core/op/rope.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;
constexpr DType kTypes[] = {DType::f32, DType::bf16};
constexpr int64_t M = 5, D = 48;

// A matrix whose third row holds one NaN; the place differs from type to type.
Tensor spoiled(Workbench& bench, DType type, Shape shape) {
  const Tensor x = bench.normal(type, shape);
  std::vector<double> values = op::load(x);
  values.at(static_cast<size_t>(2 * x.columns() + (type == f32 ? x.columns() / 3 : x.columns() - 1))) = NAN;
  return bench.filled(type, shape, values);
}

// Some element of the third row is NaN, all of the others are finite.
void expect_third_row(const Tensor& y, const std::string& what) {
  const std::vector<double> values = op::load(y);
  bool found = false;
  for (int64_t i = 0; i < y.elements(); ++i) {
    const double value = values[static_cast<size_t>(i)];
    if (i / y.columns() == 2) {
      found = found || std::isnan(value);
    } else {
      EXPECT_TRUE(std::isfinite(value)) << what << ": row " << i / y.columns() << " of " << y.text();
    }
  }
  EXPECT_TRUE(found) << what << ": the NaN was lost in " << y.text();
}

TEST_P(KernelContract, a_nan_reaches_the_result_of_its_row) {
  if (!has(op::rms_norm_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    Workbench bench(devices());
    const auto x = [&](int64_t columns = D) { return spoiled(bench, type, {M, columns}); };
    const auto out = [&](int64_t columns = D) { return bench.output(type, {M, columns}); };
    const auto expect = [&](const Call& call, const Tensor& y) {
      bench.run(call);
      expect_third_row(y, describe(call));
    };
    Tensor y = out();
    expect(op::rms_norm(x(), bench.normal(type, {D}), y, bench.output(f32, {M}), {}), y);
    y = out();
    expect(op::residual_add(bench.normal(type, {M, D}), x(), {}, y, {}, {}), y);
    y = out();
    expect(
        op::residual_norm(bench.normal(type, {M, D}), x(), bench.normal(type, {D}), bench.normal(type, {D}),
                          out(), y, bench.output(f32, {M}), bench.output(f32, {M}), {}),
        y);
    y = out();
    const Tensor rstd = bench.filled(f32, {M}, std::vector<double>(M, 1.0));
    expect(op::rms_norm_grad(x(), bench.normal(type, {M, D}), bench.normal(type, {D}), rstd, {}, y,
                             bench.normal(f32, {D}), {}, {}),
           y);
    for (const op::Activation activation : op::all_activations()) {
      y = out();
      expect(op::activate(x(), y, {activation, false}), y);
      y = out(2 * D);
      expect(op::activate_grad(x(), bench.filled(type, {M, 2 * D}, std::vector<double>(2 * M * D, 1.0)), y,
                               {}, {activation, true}),
             y);
    }
    y = out();
    expect(op::softcap(x(), y, {30}), y);
    y = out();
    expect(op::cast(spoiled(bench, f32, {M, D}), y), y);
    y = out(D);
    const Tensor table = bench.normal(f32, {M, 12});
    expect(op::rope(x(), table, {}, {}, y, {}, {2, 1, 12, 1e-6}), y);
    if (!has(op::matmul_kind)) continue;
    y = out(8);
    expect(op::matmul(x(), bench.packed(bench.normal(type, {8, D}), Layout::packed_forward), y), y);
    y = out(D);
    expect(
        op::matmul_dx(x(8 + 24), bench.packed(bench.normal(type, {8 + 24, D}), Layout::packed_backward), y),
        y);
    const Tensor dw = bench.output(f32, {D, D});
    bench.run(op::matmul_dw(bench.normal(type, {M, D}), x(), dw, {}));
    EXPECT_TRUE(std::isnan(op::load(dw)[type == f32 ? D / 3 : D - 1])) << "matmul_dw";
  }
}

TEST_P(KernelContract, a_nan_reaches_the_loss_and_the_norm) {
  if (!has(op::loss_grad_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const bool tiles : {false, true}) {
      Workbench bench(devices());
      const Tensor h = spoiled(bench, type, {M, D}), table = bench.normal(type, {100, D}, 0.3),
                   losses = bench.output(f32, {M}), dh = bench.output(type, {M, D});
      const int64_t targets[] = {1, 2, 3, 4, 5};
      Call call = op::loss_grad(h, bench.packed(table, Layout::packed_forward),
                                bench.packed(table, Layout::packed_backward), bench.integers({M}, targets),
                                bench.filled(f32, {1}, {0.1}), losses, dh, bench.normal(f32, {100, D}), {});
      call.tiles = {tiles, 4, 16};
      bench.run(call);
      expect_third_row(losses, "loss_grad");
      expect_third_row(dh, "loss_grad");
      if (tiles || type != f32) continue;
      const Tensor partial = bench.output(f32, {1}), total = bench.output(f32, {1});
      bench.run(op::sum_squares(h.reshape({M * D}), partial));
      bench.run(op::sum(losses, total));
      EXPECT_TRUE(std::isnan(op::load(partial)[0]));
      EXPECT_TRUE(std::isnan(op::load(total)[0]));
    }
  }
}

// A query's NaN spoils its own row; a value's reaches every query that sees it.
TEST_P(KernelContract, a_nan_passes_through_attention) {
  if (!has(op::attention_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    Workbench bench(devices());
    const int64_t H = 16;
    const std::vector<int64_t> starts(M, 0);
    const Tensor k = bench.normal(type, {M, H}), v = bench.normal(type, {M, H}),
                 o = bench.output(type, {M, 2 * H}), lse = bench.output(f32, {2, M}),
                 first = bench.integers({M}, starts);
    bench.run(op::attention(spoiled(bench, type, {M, 2 * H}), k, v, first, o, lse, {1, 2, 1, H, 0.25}));
    expect_third_row(o, "attention");
    const Tensor q = bench.normal(type, {M, 2 * H});
    bench.run(op::attention(q, k, spoiled(bench, type, {M, H}), first, o, lse, {1, 2, 1, H, 0.25}));
    const std::vector<double> values = op::load(o);
    for (int64_t t = 0; t < M; ++t) {
      double sum = 0;
      for (int64_t h = 0; h < 2 * H; ++h) sum += values[static_cast<size_t>(t * 2 * H + h)];
      if (t >= 2) {
        EXPECT_TRUE(std::isnan(sum)) << "query " << t;
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
