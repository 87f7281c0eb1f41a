// attention, attention_grad, loss and loss_grad. B sequences of T queries and S keys, N query heads, K
// key/value heads, H head_dim; M tokens, V vocabulary, D d_model.
#include <cmath>

#include "core/op/attention.h"
#include "core/op/loss.h"
#include "core/op/reference.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

struct Case {
  int64_t B, T, S, N, K, H;
  int64_t window = 0;
  double softcap = 0;
  bool documents = false;
};
constexpr Case kCases[] = {
    {1, 0, 0, 2, 1, 8},                       // no tokens
    {1, 1, 1, 1, 1, 2},                       // one
    {1, 17, 17, 2, 1, 16},                    // multi-query
    {2, 33, 33, 4, 2, 32},                    // grouped
    {2, 64, 64, 3, 3, 64},                    // multi-head
    {1, 130, 130, 2, 1, 256},                 // long, wide heads
    {1, 100, 100, 4, 1, 24, 7},               // window
    {2, 96, 96, 2, 2, 16, 33, 5.0},           // window and soft-cap
    {1, 77, 77, 2, 1, 32, 0, 20.0},           // soft-cap
    {2, 70, 70, 4, 2, 16, 0, 0, true},        // documents
    {2, 129, 129, 2, 1, 64, 16, 50.0, true},  // everything
    {1, 450, 450, 2, 1, 8},                   // many blocks
    {1, 401, 401, 2, 2, 8, 100, 30.0, true},
    {2, 40, 40, 4, 2, 96},                  // heads of no power of two
    {1, 70, 70, 1, 1, 200, 40, 0.0, true},  // and wide ones
    {1, 1, 40, 4, 2, 32},                   // a cache, one token at a time
    {1, 5, 64, 2, 1, 16, 9},                // a cache and a window
};

std::string text_of(const Case& c) {
  return "B " + std::to_string(c.B) + " T " + std::to_string(c.T) + " S " + std::to_string(c.S) + " N " +
         std::to_string(c.N) + " K " + std::to_string(c.K) + " H " + std::to_string(c.H) + " window " +
         std::to_string(c.window) + (c.documents ? " documents" : "");
}

op::AttentionSpec spec_of(const Case& c) {
  return {c.B, c.N, c.K, c.H, 1 / std::sqrt(static_cast<double>(c.H)), c.window, c.softcap};
}

// First visible key of each query: with documents, they begin at keys 0, S/3 and S/2 + 1.
std::vector<int64_t> starts_of(const Case& c) {
  std::vector<int64_t> starts;
  for (int64_t b = 0; b < c.B; ++b) {
    for (int64_t t = 0; t < c.T; ++t) {
      const int64_t self = t + c.S - c.T;
      int64_t start = 0;
      if (c.documents && self >= c.S / 3) start = c.S / 3;
      if (c.documents && self >= c.S / 2 + 1) start = c.S / 2 + 1;
      starts.push_back(start);
    }
  }
  return starts;
}

// Queries, keys and values as views of one matrix where there is no cache, as layers hand them over.
struct Inputs {
  Tensor q, k, v, starts;
};
Inputs inputs(Workbench& bench, DType type, const Case& c) {
  Inputs in;
  const int64_t q = c.N * c.H, kv = c.K * c.H;
  if (c.T == c.S) {
    const Tensor qkv = bench.normal(type, {c.B * c.T, q + 2 * kv});
    in = {qkv.slice_columns(0, q), qkv.slice_columns(q, kv), qkv.slice_columns(q + kv, kv), {}};
  } else {
    in = {bench.normal(type, {c.B * c.T, q}),
          bench.normal(type, {c.B * c.S, kv}),
          bench.normal(type, {c.B * c.S, kv}),
          {}};
  }
  in.starts = bench.integers({c.B * c.T}, starts_of(c));
  return in;
}

Tolerance tolerance_of(DType type, const Case& c) {
  return {.length = static_cast<double>(c.H + c.S), .intermediate = type, .scale = 0};
}

TEST_P(KernelContract, attention) {
  if (!has(op::attention_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Case& c : kCases) {
      for (const bool with_lse : {true, false}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Inputs in = inputs(bench, type, c);
              const Tensor o = bench.output(type, {c.B * c.T, c.N * c.H});
              const Tensor lse = with_lse ? bench.output(DType::f32, {c.N, c.B * c.T}) : Tensor{};
              return op::attention(in.q, in.k, in.v, in.starts, o, lse, spec_of(c));
            },
            tolerance_of(type, c), text_of(c));
      }
    }
  }
}

TEST_P(KernelContract, attention_grad) {
  if (!has(op::attention_grad_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Case& c : kCases) {
      for (const int64_t slices : {0, 1, 2}) {  // 0: the fast mode; else deterministic
        if ((slices == 2 && c.N % 2 != 0) || (slices > 0 && c.T > 300)) continue;
        expect_agreement(
            [&](Workbench& bench) {
              const Inputs in = inputs(bench, type, c);
              const Tensor o = bench.output(type, {c.B * c.T, c.N * c.H});
              const Tensor lse = bench.output(DType::f32, {c.N, c.B * c.T});
              // Both sides start from the reference's forward pass.
              const Call forward = op::attention(in.q, in.k, in.v, in.starts, o, lse, spec_of(c));
              forward.kind->reference(forward);
              const Tensor d_o = bench.normal(type, {c.B * c.T, c.N * c.H});
              const int64_t q = c.N * c.H, kv = c.K * c.H;
              Tensor dq, dk, dv;
              if (c.T == c.S) {
                const Tensor d_qkv = bench.output(type, {c.B * c.T, q + 2 * kv});
                dq = d_qkv.slice_columns(0, q);
                dk = d_qkv.slice_columns(q, kv);
                dv = d_qkv.slice_columns(q + kv, kv);
              } else {
                dq = bench.output(type, {c.B * c.T, q});
                dk = bench.output(type, {c.B * c.S, kv});
                dv = bench.output(type, {c.B * c.S, kv});
              }
              if (slices == 1) {  // as partial sums
                dk = bench.output(DType::f32, {c.B * c.S, kv});
                dv = bench.output(DType::f32, {c.B * c.S, kv}, kv + 8);
              }
              Call call =
                  op::attention_grad(d_o, in.q, in.k, in.v, o, lse, in.starts, dq, dk, dv, spec_of(c));
              if (slices > 0) call.tiles = {true, slices, 16};
              return call;
            },
            tolerance_of(type, c), text_of(c) + (slices > 0 ? " in tiles" : ""));
      }
    }
  }
}

struct LossCase {
  int64_t M, V, D, block;
  double softcap = 0;
};
constexpr LossCase kLossCases[] = {
    {0, 8, 4, 512},  {1, 1, 1, 512},          {5, 17, 9, 512},       {33, 100, 48, 16},   {64, 257, 64, 32},
    {70, 96, 33, 8}, {64, 130, 32, 512, 3.0}, {17, 64, 64, 4, 30.0}, {140, 1100, 8, 512}, {20, 8500, 8, 16}};

struct LossInputs {
  Tensor h, table, targets;
};
LossInputs loss_inputs(Workbench& bench, DType type, const LossCase& c) {
  LossInputs in{bench.normal(type, {c.M, c.D}), bench.normal(type, {c.V, c.D}, 0.5),
                bench.integers({c.M}, -1, c.V - 1)};
  for (int64_t m = 0; m < c.M; m += 3) in.targets.as<int32_t>()[m] = -1;  // masked
  return in;
}

TEST_P(KernelContract, loss) {
  if (!has(op::loss_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const LossCase& c : kLossCases) {
      for (const bool tiles : {false, true}) {
        expect_agreement(
            [&](Workbench& bench) {
              const LossInputs in = loss_inputs(bench, type, c);
              Call call = op::loss(in.h, bench.packed(in.table, Layout::packed_forward), in.targets,
                                   bench.output(DType::f32, {c.M}), {c.softcap, c.block});
              if (tiles) call.tiles = {true, 4, 16};
              return call;
            },
            {.length = static_cast<double>(c.V + c.D), .scale = 1}, tiles ? "in tiles" : "");
      }
    }
  }
}

TEST_P(KernelContract, loss_grad) {
  if (!has(op::loss_grad_kind)) GTEST_SKIP();
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const LossCase& c : kLossCases) {
      for (const bool tiles : {false, true}) {
        expect_agreement(
            [&](Workbench& bench) {
              const LossInputs in = loss_inputs(bench, type, c);
              const Tensor scale = bench.filled(DType::f32, {1}, {1.0 / 64});
              Call call = op::loss_grad(in.h, bench.packed(in.table, Layout::packed_forward),
                                        bench.packed(in.table, Layout::packed_backward), in.targets, scale,
                                        bench.output(DType::f32, {c.M}), bench.output(type, {c.M, c.D}),
                                        bench.normal(DType::f32, {c.V, c.D}, 0.01), {c.softcap, c.block});
              if (tiles) call.tiles = {true, 4, 16};
              return call;
            },
            {.length = static_cast<double>(c.V + c.D + c.M), .intermediate = type}, tiles ? "in tiles" : "");
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
