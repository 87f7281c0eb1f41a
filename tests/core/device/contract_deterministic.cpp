// In deterministic mode a number's bits do not depend on threads, on how many rows a call has, nor on how
// many parts the heads, the ffn or the tokens are cut into by hand, as long as the parts are summed pairwise.
// m rows, n outputs, k inputs; B sequences of T tokens, N query heads, K key/value heads, H head_dim; V
// vocabulary, D d_model.
#include <cmath>
#include <sstream>

#include "core/op/attention.h"
#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;
constexpr DType kTypes[] = {DType::f32, DType::bf16};
constexpr int64_t kSlices = 8;
constexpr int64_t kBlock = 16;  // tokens

Call in_tiles(Call call, int64_t slices = 1) {
  call.tiles = {true, slices, kBlock};
  return call;
}

// A dense copy of some rows and columns of a matrix.
Tensor part_of(Workbench& bench, const Tensor& whole, int64_t row, int64_t rows, int64_t column,
               int64_t columns) {
  return bench.filled(whole.type, {rows, columns},
                      op::load(whole.slice_rows(row, rows).slice_columns(column, columns)));
}

// Adds neighbours until one is left, as the collectives of a model axis do.
Tensor pairwise_sum(const Workbench& bench, std::vector<Tensor> parts) {
  while (parts.size() > 1) {
    std::vector<Tensor> sums;
    for (size_t i = 0; i < parts.size(); i += 2) {
      bench.run(op::add(parts[i + 1], parts[i]));
      sums.push_back(parts[i]);
    }
    parts = sums;
  }
  return parts.front();
}

// Prints the first element that differs, and both values.
void expect_same_bits(const Tensor& actual, const Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.shape, expected.shape) << what;
  for (const double value : op::load(actual)) {
    if (!std::isfinite(value)) {
      ADD_FAILURE() << what << ": " << actual.text() << " was not written";
      return;
    }
  }
  if (bytes_in(actual) == bytes_in(expected)) return;
  const std::vector<double> got = op::load(actual), want = op::load(expected);
  size_t i = 0;
  while (i < got.size() && got[i] == want[i]) ++i;
  std::ostringstream values;
  values.precision(17);
  if (i < got.size()) values << got[i] << ", expected " << want[i];
  ADD_FAILURE() << what << ": element " << i << " of " << actual.text() << " is " << values.str();
}

std::string with_parts(const char* what, DType type, int64_t parts) {
  return std::string(what) + " in " + std::string(name_of(type)) + " cut into " + std::to_string(parts);
}

TEST_P(DeterministicContract, deterministic_matmul) {
  if (!has(op::matmul_kind)) GTEST_SKIP();
  const int64_t m = 37, n = 48, k = 160;
  for (const DType type : kTypes) {
    Workbench bench(devices());
    const Tensor x = bench.normal(type, {m, k}), w = bench.normal(type, {n, k}),
                 whole = bench.output(f32, {m, n});
    const auto product = [&](const Tensor& a, const Tensor& b, int64_t slices, int threads) {
      const Tensor y = bench.output(f32, {a.shape[0], b.shape[0]});
      bench.run(in_tiles(op::matmul(a, bench.packed(b, Layout::packed_forward), y), slices), threads);
      return y;
    };
    bench.run(in_tiles(op::matmul(x, bench.packed(w, Layout::packed_forward), whole), kSlices), 1);
    for (const int threads : {2, 3})
      expect_same_bits(product(x, w, kSlices, threads), whole, "matmul with threads");
    for (const int64_t rows : {1, 2, 5, 16, 36}) {
      expect_same_bits(product(x.slice_rows(1, rows), w, kSlices, 2), whole.slice_rows(1, rows),
                       "matmul of fewer rows");
    }
    for (const int64_t parts : {2, 4}) {
      std::vector<Tensor> sums;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t each = k / parts;
        sums.push_back(product(part_of(bench, x, 0, m, i * each, each),
                               part_of(bench, w, 0, n, i * each, each), kSlices / parts, 2));
        const int64_t some = n / parts;
        expect_same_bits(product(x, part_of(bench, w, i * some, some, 0, k), kSlices, 2),
                         whole.slice_columns(i * some, some), with_parts("matmul's outputs", type, parts));
      }
      expect_same_bits(pairwise_sum(bench, sums), whole, with_parts("matmul's inputs", type, parts));
    }
  }
}

TEST_P(DeterministicContract, deterministic_matmul_dx) {
  if (!has(op::matmul_dx_kind)) GTEST_SKIP();
  const int64_t m = 37, n = 160, k = 48;
  for (const DType type : kTypes) {
    Workbench bench(devices());
    const Tensor dy = bench.normal(type, {m, n}), w = bench.normal(type, {n, k});
    const auto product = [&](const Tensor& a, const Tensor& b, int64_t slices, int threads) {
      const Tensor dx = bench.output(f32, {a.shape[0], b.shape[1]});
      bench.run(in_tiles(op::matmul_dx(a, bench.packed(b, Layout::packed_backward), dx), slices), threads);
      return dx;
    };
    const Tensor whole = product(dy, w, kSlices, 1);
    for (const int threads : {2, 3})
      expect_same_bits(product(dy, w, kSlices, threads), whole, "matmul_dx with threads");
    for (const int64_t rows : {1, 2, 5, 16, 36}) {
      expect_same_bits(product(dy.slice_rows(1, rows), w, kSlices, 2), whole.slice_rows(1, rows),
                       "matmul_dx of fewer rows");
    }
    for (const int64_t parts : {2, 4}) {
      std::vector<Tensor> sums;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t each = n / parts;
        sums.push_back(product(part_of(bench, dy, 0, m, i * each, each),
                               part_of(bench, w, i * each, each, 0, k), kSlices / parts, 2));
      }
      expect_same_bits(pairwise_sum(bench, sums), whole, with_parts("matmul_dx's outputs", type, parts));
    }
  }
}

TEST_P(DeterministicContract, deterministic_matmul_dw) {
  if (!has(op::matmul_dw_kind)) GTEST_SKIP();
  const int64_t m = 8 * kBlock, n = 24, k = 40;
  for (const DType type : kTypes) {
    Workbench bench(devices());
    const Tensor dy = bench.normal(type, {m, n}), x = bench.normal(type, {m, k});
    const auto product = [&](const Tensor& a, const Tensor& b, int threads) {
      const Tensor dw = bench.output(f32, {a.shape[1], b.shape[1]});
      bench.run(in_tiles(op::matmul_dw(a, b, dw, {})), threads);
      return dw;
    };
    const Tensor whole = product(dy, x, 1);
    for (const int threads : {2, 3})
      expect_same_bits(product(dy, x, threads), whole, "matmul_dw with threads");
    for (const int64_t parts : {2, 4, 8}) {
      std::vector<Tensor> sums;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t each = m / parts;
        sums.push_back(product(dy.slice_rows(i * each, each), x.slice_rows(i * each, each), 2));
      }
      expect_same_bits(pairwise_sum(bench, sums), whole, with_parts("matmul_dw's tokens", type, parts));
    }
    for (const int64_t parts : {2, 4}) {
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t rows = n / parts, columns = k / parts;
        expect_same_bits(product(dy.slice_columns(i * rows, rows), x, 2), whole.slice_rows(i * rows, rows),
                         with_parts("matmul_dw's outputs", type, parts));
        expect_same_bits(product(dy, x.slice_columns(i * columns, columns), 2),
                         whole.slice_columns(i * columns, columns),
                         with_parts("matmul_dw's inputs", type, parts));
      }
    }
  }
}

// One sequence's attention and its gradient over some of the query heads and the key/value heads that serve
// them.
struct Attention {
  Tensor o, lse, dq, dk, dv;
};
struct AttentionInputs {
  Tensor q, k, v, d_o, starts;
};

AttentionInputs heads_of(const AttentionInputs& all, int64_t q_head, int64_t q_heads, int64_t kv_head,
                         int64_t kv_heads, int64_t H) {
  return {all.q.slice_columns(q_head * H, q_heads * H), all.k.slice_columns(kv_head * H, kv_heads * H),
          all.v.slice_columns(kv_head * H, kv_heads * H), all.d_o.slice_columns(q_head * H, q_heads * H),
          all.starts};
}

Attention attend(Workbench& bench, const AttentionInputs& in, op::AttentionSpec spec, int64_t slices,
                 int threads) {
  const int64_t M = in.q.shape[0];
  const DType type = in.q.type;
  // Gradients of a shared key/value head are partial sums where its query heads are split: they stay fp32.
  Attention out{bench.output(type, in.q.shape), bench.output(f32, {spec.heads, M}),
                bench.output(type, in.q.shape), bench.output(f32, in.k.shape), bench.output(f32, in.v.shape)};
  bench.run(in_tiles(op::attention(in.q, in.k, in.v, in.starts, out.o, out.lse, spec), slices), threads);
  const Tensor d_o = bench.filled(type, in.d_o.shape, op::load(in.d_o));
  bench.run(in_tiles(op::attention_grad(d_o, in.q, in.k, in.v, out.o, out.lse, in.starts, out.dq, out.dk,
                                        out.dv, spec),
                     slices),
            threads);
  return out;
}

TEST_P(DeterministicContract, deterministic_attention) {
  if (!has(op::attention_kind) || !has(op::attention_grad_kind)) GTEST_SKIP();
  const int64_t T = 77, N = 8, H = 16;
  for (const DType type : kTypes) {
    for (const int64_t K : {1, 2, 8}) {
      for (const int64_t window : {0, 21}) {
        Workbench bench(devices());
        std::vector<int64_t> starts;
        for (int64_t t = 0; t < 2 * T; ++t) starts.push_back(t % T < 30 ? 0 : 30);
        // Two sequences; the same ones are given alone and together.
        const AttentionInputs both{bench.normal(type, {2 * T, N * H}), bench.normal(type, {2 * T, K * H}),
                                   bench.normal(type, {2 * T, K * H}), bench.normal(type, {2 * T, N * H}),
                                   bench.integers({2 * T}, starts)};
        const op::AttentionSpec spec{1, N, K, H, 0.25, window, 0};
        const AttentionInputs one{both.q.slice_rows(0, T), both.k.slice_rows(0, T), both.v.slice_rows(0, T),
                                  both.d_o.slice_rows(0, T), both.starts.slice_rows(0, T)};
        const Attention whole = attend(bench, one, spec, kSlices, 1);
        const auto expect_same = [&](const Attention& other, const std::string& what) {
          expect_same_bits(other.o, whole.o, what + ", o");
          expect_same_bits(other.dq, whole.dq, what + ", dq");
          expect_same_bits(other.dk, whole.dk, what + ", dk");
          expect_same_bits(other.dv, whole.dv, what + ", dv");
        };
        for (const int threads : {2, 3})
          expect_same(attend(bench, one, spec, kSlices, threads), "attention with threads");
        op::AttentionSpec two = spec;
        two.sequences = 2;
        const Attention pair = attend(bench, both, two, kSlices, 2);
        expect_same({pair.o.slice_rows(0, T),
                     {},
                     pair.dq.slice_rows(0, T),
                     pair.dk.slice_rows(0, T),
                     pair.dv.slice_rows(0, T)},
                    "attention of two sequences");
        for (const int64_t parts : {2, 4}) {
          const std::string what = with_parts("attention's heads", type, parts) + ", K " + std::to_string(K);
          const int64_t heads = N / parts, kv_heads = std::max<int64_t>(1, K / parts);
          std::vector<Tensor> dk, dv;
          for (int64_t i = 0; i < parts; ++i) {
            const int64_t kv_first = i * heads * K / N;
            op::AttentionSpec some = spec;
            some.heads = heads;
            some.kv_heads = kv_heads;
            const Attention part = attend(bench, heads_of(one, i * heads, heads, kv_first, kv_heads, H), some,
                                          kSlices / parts, 2);
            expect_same_bits(part.o, whole.o.slice_columns(i * heads * H, heads * H), what + ", o");
            expect_same_bits(part.dq, whole.dq.slice_columns(i * heads * H, heads * H), what + ", dq");
            dk.push_back(part.dk);
            dv.push_back(part.dv);
          }
          // Parts that share a key/value head are summed; others lie side by side.
          const int64_t sharing = std::max<int64_t>(1, parts / K);
          for (int64_t i = 0; i < parts; i += sharing) {
            const std::vector<Tensor> dk_parts(dk.begin() + i, dk.begin() + i + sharing),
                dv_parts(dv.begin() + i, dv.begin() + i + sharing);
            const int64_t column = i * heads * K / N * H;
            expect_same_bits(pairwise_sum(bench, dk_parts), whole.dk.slice_columns(column, kv_heads * H),
                             what + ", dk");
            expect_same_bits(pairwise_sum(bench, dv_parts), whole.dv.slice_columns(column, kv_heads * H),
                             what + ", dv");
          }
        }
      }
    }
  }
}

struct Losses {
  Tensor token_loss, dh, d_table;
};

TEST_P(DeterministicContract, deterministic_loss) {
  if (!has(op::loss_kind) || !has(op::loss_grad_kind)) GTEST_SKIP();
  const int64_t M = 8 * kBlock, V = 96, D = 40;
  for (const DType type : kTypes) {
    for (const double softcap : {0.0, 5.0}) {
      Workbench bench(devices());
      const Tensor h = bench.normal(type, {M, D}), table = bench.normal(type, {V, D}, 0.3),
                   targets = bench.integers({M}, -1, V - 1), scale = bench.filled(f32, {1}, {1.0 / 64});
      const auto loss_of = [&](int64_t first, int64_t rows, int threads) {
        Losses out{bench.output(f32, {rows}), bench.output(type, {rows, D}), bench.normal(f32, {V, D}, 0)};
        bench.run(in_tiles(op::loss_grad(
                               h.slice_rows(first, rows), bench.packed(table, Layout::packed_forward),
                               bench.packed(table, Layout::packed_backward), targets.slice_rows(first, rows),
                               scale, out.token_loss, out.dh, out.d_table, {softcap, 512}),
                           kSlices),
                  threads);
        return out;
      };
      const Losses whole = loss_of(0, M, 1);
      const auto expect_rows = [&](const Losses& other, int64_t first, int64_t rows,
                                   const std::string& what) {
        expect_same_bits(other.token_loss, whole.token_loss.slice_rows(first, rows), what + ", token_loss");
        expect_same_bits(other.dh, whole.dh.slice_rows(first, rows), what + ", dh");
      };
      for (const int threads : {2, 3}) {
        const Losses again = loss_of(0, M, threads);
        expect_rows(again, 0, M, "loss_grad with threads");
        expect_same_bits(again.d_table, whole.d_table, "loss_grad with threads, d_table");
      }
      for (const int64_t rows : {1, 5, 16, 33})
        expect_rows(loss_of(3, rows, 2), 3, rows, "loss_grad of fewer rows");
      for (const int64_t parts : {2, 4, 8}) {
        std::vector<Tensor> sums;
        for (int64_t i = 0; i < parts; ++i) {
          const int64_t each = M / parts;
          const Losses part = loss_of(i * each, each, 2);
          expect_rows(part, i * each, each, with_parts("loss_grad's tokens", type, parts));
          sums.push_back(part.d_table);
        }
        expect_same_bits(pairwise_sum(bench, sums), whole.d_table,
                         with_parts("loss_grad's tokens", type, parts) + ", d_table");
      }
      // The loss alone is the loss beside its gradient.
      const Tensor alone = bench.output(f32, {M});
      bench.run(in_tiles(
          op::loss(h, bench.packed(table, Layout::packed_forward), targets, alone, {softcap, 512}), kSlices));
      expect_same_bits(alone, whole.token_loss, "loss without its gradient");
    }
  }
}

}  // namespace
}  // namespace toroid::testing
