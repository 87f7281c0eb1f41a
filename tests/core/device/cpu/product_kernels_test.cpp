// What the contract suite does not reach: tables so large that they are packed in pieces, several threads,
// and long sequences in blocks. M tokens, V vocabulary, D d_model.
#include <gtest/gtest.h>

#include <cmath>

#include "core/device/cpu/cpu_kernels.h"
#include "core/op/attention.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16};

// The largest difference over the largest element.
double relative(const Tensor& actual, const Tensor& expected) {
  const std::vector<double> got = op::load(actual), want = op::load(expected);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::isfinite(got[i]) ? std::max(worst, std::abs(got[i] - want[i])) : 1e30;
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

std::vector<Bf16Products> ways() {
  std::vector<Bf16Products> out{Bf16Products::widened};
  if (cpu::has_native_products()) out.push_back(Bf16Products::native);
  return out;
}

double bound(DType type) {
  return type == DType::bf16 ? 0.02 : 2e-5;
}

class ProductKernels : public ::testing::TestWithParam<Bf16Products> {
 protected:
  std::shared_ptr<const DeviceKernels> kernels = make_cpu_kernels(1, GetParam());
};

INSTANTIATE_TEST_SUITE_P(Ways, ProductKernels, ::testing::ValuesIn(ways()),
                         [](const auto& way) { return std::string(name_of(way.param)); });

TEST_P(ProductKernels, large_table) {
  const int64_t M = 45, V = 8192 + 700, D = 40;
  for (const DType type : kTypes) {
    for (const int threads : {1, 3}) {
      Workbench fast(kernels.get()), plain;
      std::vector<Tensor> results[2];
      for (Workbench* bench : {&fast, &plain}) {
        const Tensor h = bench->normal(type, {M, D}), table = bench->normal(type, {V, D}, 0.3);
        const Tensor targets = bench->integers({M}, -1, V - 1),
                     scale = bench->filled(DType::f32, {1}, {0.25});
        const Tensor loss = bench->output(DType::f32, {M}), dh = bench->output(type, {M, D}),
                     d_table = bench->normal(DType::f32, {V, D}, 0.01), dx = bench->output(type, {M, D});
        const Tensor backward = bench->packed(table, Layout::packed_backward);
        bench->run(op::loss_grad(h, bench->packed(table, Layout::packed_forward), backward, targets, scale,
                                 loss, dh, d_table, {.block_tokens = 20}),
                   threads);
        bench->run(op::matmul_dx(bench->normal(type, {M, V}), backward, dx), threads);
        results[bench == &plain] = {loss, dh, d_table, dx};
      }
      for (size_t i = 0; i < results[0].size(); ++i) {
        EXPECT_LT(relative(results[0][i], results[1][i]), bound(type)) << name_of(type) << ", output " << i;
      }
      EXPECT_TRUE(fast.guards_intact());
    }
  }
}

struct Heads {
  int64_t N, K, window;
};

// More rows than a block has, a shorter last block, panels that the threads do not share evenly, columns and
// contractions that end inside a block.
TEST_P(ProductKernels, weights_of_all_shapes) {
  struct Sizes {
    int64_t M, N, K;
  };
  for (const DType type : kTypes) {
    for (const Sizes s : {Sizes{1, 70, 33}, Sizes{4, 64, 64}, Sizes{5, 130, 64}, Sizes{300, 200, 100},
                          Sizes{1300, 333, 47}, Sizes{1024 + 16, 64, 130}}) {
      for (const int threads : {1, 3}) {
        Workbench fast(kernels.get()), plain;
        std::vector<Tensor> results[2];
        for (Workbench* bench : {&fast, &plain}) {
          const Tensor x = bench->normal(type, {s.M, s.K}), w = bench->normal(type, {s.N, s.K}),
                       dy = bench->normal(type, {s.M, s.N});
          const Tensor y = bench->output(type, {s.M, s.N}), y32 = bench->normal(DType::f32, {s.M, s.N}),
                       dx = bench->output(type, {s.M, s.K}), added = bench->normal(type, {s.M, s.K}),
                       dw = bench->output(DType::f32, {s.N, s.K});
          const Tensor forward = bench->packed(w, Layout::packed_forward),
                       backward = bench->packed(w, Layout::packed_backward);
          bench->run(op::matmul(x, forward, y), threads);
          bench->run(op::matmul(x, forward, y32, {true}), threads);
          bench->run(op::matmul_dx(dy, backward, dx), threads);
          bench->run(op::matmul_dx(dy, backward, added, {true}), threads);
          bench->run(op::matmul_dw(dy, x, dw, {}), threads);
          results[bench == &plain] = {y, y32, dx, added, dw};
        }
        for (size_t i = 0; i < results[0].size(); ++i) {
          EXPECT_LT(relative(results[0][i], results[1][i]), bound(type))
              << name_of(type) << ", output " << i << ", " << s.M << " x " << s.N << " x " << s.K << " on "
              << threads;
        }
        EXPECT_TRUE(fast.guards_intact());
      }
    }
  }
}

TEST_P(ProductKernels, long_sequences_and_threads) {
  const int64_t T = 700, H = 72;
  for (const DType type : kTypes) {
    for (const Heads c : {Heads{3, 1, 0}, Heads{2, 2, 0}, Heads{2, 1, 150}}) {
      for (const int threads : {1, 4}) {
        Workbench fast(kernels.get()), plain;
        std::vector<Tensor> results[2];
        for (Workbench* bench : {&fast, &plain}) {
          const op::AttentionSpec spec{1, c.N, c.K, H, 0.15, c.window, 0};
          const Tensor q = bench->normal(type, {T, c.N * H}), k = bench->normal(type, {T, c.K * H}),
                       v = bench->normal(type, {T, c.K * H}), d_o = bench->normal(type, {T, c.N * H});
          std::vector<int64_t> starts;
          for (int64_t t = 0; t < T; ++t) starts.push_back(t < 333 ? 0 : 333);
          const Tensor first = bench->integers({T}, starts), o = bench->output(type, {T, c.N * H}),
                       lse = bench->output(DType::f32, {c.N, T}), dq = bench->output(type, {T, c.N * H}),
                       dk = bench->output(type, {T, c.K * H}), dv = bench->output(type, {T, c.K * H});
          bench->run(op::attention(q, k, v, first, o, lse, spec), threads);
          bench->run(op::attention_grad(d_o, q, k, v, o, lse, first, dq, dk, dv, spec), threads);
          results[bench == &plain] = {o, lse, dq, dk, dv};
        }
        for (size_t i = 0; i < results[0].size(); ++i) {
          EXPECT_LT(relative(results[0][i], results[1][i]), bound(type))
              << name_of(type) << ", output " << i << ", N " << c.N << " K " << c.K << " window " << c.window;
        }
        EXPECT_TRUE(fast.guards_intact());
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
