// matmul, matmul_dx, matmul_dw and pack. m rows, n outputs, k inputs.
#include "core/op/matmul.h"
#include "core/op/reference.h"
#include "core/op/symmetric_product.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

struct Size {
  int64_t m, n, k;
};
constexpr Size kSizes[] = {{0, 5, 7},     {1, 1, 1},     {1, 17, 33},    {2, 64, 64},    {7, 15, 31},
                           {16, 16, 16},  {17, 33, 65},  {64, 127, 255}, {5, 257, 32},   {33, 48, 128},
                           {130, 96, 64}, {515, 40, 24}, {40, 1030, 24}, {24, 40, 1030}, {5, 8500, 8}};

// A matrix [rows, columns] that is columns of a wider one where `strided`.
Tensor activations(Workbench& bench, DType type, int64_t rows, int64_t columns, bool strided) {
  return bench.normal(type, {rows, columns}, 1, strided ? columns + 24 : 0);
}

TEST_P(KernelContract, matmul) {
  if (!has(op::matmul_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const DType out : {DType::f32, DType::bf16}) {
      if (type == DType::f32 && out == DType::bf16) continue;
      for (const Size size : kSizes) {
        for (const bool option : {false, true}) {  // accumulate, and strided rows
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor x = activations(bench, type, size.m, size.k, option);
                const Tensor w = bench.packed(bench.normal(type, {size.n, size.k}), Layout::packed_forward);
                const Tensor y =
                    option ? bench.normal(out, {size.m, size.n}) : bench.output(out, {size.m, size.n});
                return op::matmul(x, w, y, {option});
              },
              {.length = static_cast<double>(size.k)}, option ? "accumulating, strided" : "");
        }
      }
    }
  }
}

TEST_P(KernelContract, matmul_dx) {
  if (!has(op::matmul_dx_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const DType out : {DType::f32, DType::bf16}) {
      if (type == DType::f32 && out == DType::bf16) continue;
      for (const Size size : kSizes) {
        for (const bool option : {false, true}) {
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor dy = activations(bench, type, size.m, size.n, option);
                const Tensor w = bench.packed(bench.normal(type, {size.n, size.k}), Layout::packed_backward);
                const Tensor dx =
                    option ? bench.normal(out, {size.m, size.k}) : bench.output(out, {size.m, size.k});
                return op::matmul_dx(dy, w, dx, {option});
              },
              {.length = static_cast<double>(size.n)}, option ? "accumulating, strided" : "");
        }
      }
    }
  }
}

TEST_P(KernelContract, matmul_dw) {
  if (!has(op::matmul_dw_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Size size : kSizes) {
      for (const bool option : {false, true}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Tensor dy = activations(bench, type, size.m, size.n, option);
              const Tensor x = activations(bench, type, size.m, size.k, option);
              const Tensor dw = option ? bench.normal(DType::f32, {size.n, size.k})
                                       : bench.output(DType::f32, {size.n, size.k});
              return op::matmul_dw(dy, x, dw, {option});
            },
            {.length = static_cast<double>(size.m)}, option ? "accumulating, strided" : "");
      }
    }
  }
}

// The canonical cut of deterministic mode is another order of the same sum.
TEST_P(KernelContract, matmul_in_tiles) {
  if (!has(op::matmul_kind) || !has(op::matmul_dx_kind) || !has(op::matmul_dw_kind)) GTEST_SKIP();
  const int64_t m = 37, n = 96, k = 160;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const int64_t slices : {1, 2, 4, 8}) {
      const Tiles tiles{true, slices, 16};
      expect_agreement(
          [&](Workbench& bench) {
            const Tensor x = bench.normal(type, {m, k});
            const Tensor w = bench.packed(bench.normal(type, {n, k}), Layout::packed_forward);
            Call call = op::matmul(x, w, bench.output(DType::f32, {m, n}));
            call.tiles = tiles;
            return call;
          },
          {.length = static_cast<double>(k)}, "in slices");
      expect_agreement(
          [&](Workbench& bench) {
            const Tensor dy = bench.normal(type, {m, n});
            const Tensor w = bench.packed(bench.normal(type, {n, k}), Layout::packed_backward);
            Call call = op::matmul_dx(dy, w, bench.output(DType::f32, {m, k}));
            call.tiles = tiles;
            return call;
          },
          {.length = static_cast<double>(n)}, "in slices");
      expect_agreement(
          [&](Workbench& bench) {
            Call call = op::matmul_dw(bench.normal(type, {m, n}), bench.normal(type, {m, k}),
                                      bench.normal(DType::f32, {n, k}), {true});
            call.tiles = tiles;
            return call;
          },
          {.length = static_cast<double>(m)}, "in token blocks");
    }
  }
}

// Of a with itself any product is symmetric, of two matrices one is only by their making: b is a times a
// number that changes no bit of a significand.
TEST_P(KernelContract, symmetric_product) {
  if (!has(op::symmetric_product_kind)) GTEST_SKIP();
  struct Square {
    int64_t n, k;
  };
  constexpr Square squares[] = {{0, 5}, {5, 0}, {1, 1}, {3, 17}, {64, 64}, {65, 32}, {127, 96}, {330, 33}};
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const DType out : {DType::f32, DType::bf16}) {
      if (type == DType::f32 && out == DType::bf16) continue;
      for (const Square& size : squares) {
        for (const bool transposed : {false, true}) {
          for (const bool polynomial : {false, true}) {
            for (const bool deterministic : {false, true}) {
              expect_agreement(
                  [&](Workbench& bench) {
                    const Shape shape = transposed ? Shape{size.k, size.n} : Shape{size.n, size.k};
                    const Shape square{size.n, size.n};
                    const Tensor a = bench.normal(type, shape);
                    Tensor b = a, c;
                    if (polynomial) {
                      std::vector<double> twice = op::load(a);
                      for (double& value : twice) value *= 2;
                      b = bench.filled(type, shape, twice);
                      c = bench.normal(out, square);  // of which the lower half counts
                    }
                    Call call = op::symmetric_product(a, b, c, bench.output(out, square),
                                                      {transposed, polynomial ? 2.0315 : 1.0,
                                                       polynomial ? -4.775 : 0.0, polynomial ? 3.4445 : 0.0});
                    call.tiles.deterministic = deterministic;
                    return call;
                  },
                  {.length = static_cast<double>(size.k), .scale = polynomial ? 8.0 : 1.0},
                  transposed ? "transposed" : "");
            }
          }
        }
      }
    }
  }
}

// Packing into plain rows can be looked at; packed layouts are proved by the products that read them.
TEST_P(KernelContract, pack) {
  if (!has(op::pack_kind)) GTEST_SKIP();
  for (const DType from : {DType::f32, DType::bf16}) {
    for (const DType to : {DType::f32, DType::bf16}) {
      if (from == DType::bf16 && to == DType::f32) continue;
      for (const int64_t k : {1, 17, 64, 130}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Tensor parts[] = {bench.normal(from, {3, k}), bench.normal(from, {1, k}),
                                      bench.normal(from, {16, k})};
              return op::pack(parts, bench.output(to, {20, k}));
            },
            {});
      }
    }
  }
}

// Stacked parts behave as the one matrix they make.
TEST_P(KernelContract, pack_of_parts_serves_products) {
  if (!has(op::pack_kind) || !has(op::matmul_kind)) GTEST_SKIP();
  const int64_t k = 96;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const bool backward : {false, true}) {
      expect_agreement(
          [&](Workbench& bench) {
            const Tensor whole = bench.normal(DType::f32, {80, k});
            const Tensor parts[] = {whole.slice_rows(0, 48), whole.slice_rows(48, 16),
                                    whole.slice_rows(64, 16)};
            const Layout layout = backward ? Layout::packed_backward : Layout::packed_forward;
            const Tensor w = bench.packed(parts, type, layout);
            if (backward) return op::matmul_dx(bench.normal(type, {9, 80}), w, bench.output(type, {9, k}));
            return op::matmul(bench.normal(type, {9, k}), w, bench.output(type, {9, 80}));
          },
          {.length = static_cast<double>(k)});
    }
  }
}

}  // namespace
}  // namespace toroid::testing
