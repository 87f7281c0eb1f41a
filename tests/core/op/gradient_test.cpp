// Every operator with a gradient against finite differences in f64, at odd sizes too. M tokens, D d_model, F
// ffn hidden, N query heads, K key/value heads, H head_dim, V vocabulary.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/reference.h"
#include "core/op/rope.h"
#include "tests/core/op/gradient_check.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f64 = DType::f64;

void run(const Call& call) {
  call.kind->reference(call);
}

Tensor zeros(Workbench& bench, Shape shape) {
  return bench.normal(f64, shape, 0);
}

// The check itself: a gradient that is off in one element is found.
TEST(Gradient, a_wrong_gradient_is_found) {
  Workbench bench;
  const Tensor x = bench.normal(f64, {3}), y = bench.output(f64, {3}), dy = bench.normal(f64, {3});
  const Call forward = op::cast(x, y);
  GradientCheck check{[&] { run(forward); }, {y}, {dy}, {{"x", x, dy}}};
  check_gradients(check);
  check.inputs[0].gradient = bench.filled(f64, {3}, op::load(dy));
  check.inputs[0].gradient.as<double>()[1] *= 1 + 1e-5;
  EXPECT_NONFATAL_FAILURE(check_gradients(check), "element 1");
}

TEST(Gradient, embed) {
  for (const auto& [M, V, D] : {std::array<int64_t, 3>{7, 5, 3}, {1, 1, 1}, {0, 3, 2}, {13, 4, 9}}) {
    Workbench bench;
    const op::EmbedSpec spec{std::sqrt(7.0), 2};
    const Tensor ids = bench.integers({M}, 0, V + 3);  // some lie outside [2, V + 2)
    const Tensor table = bench.normal(f64, {V, D}), x = bench.output(f64, {M, D});
    const Tensor dx = bench.normal(f64, {M, D}), d_table = zeros(bench, {V, D});
    const Call forward = op::embed(ids, table, x, spec);
    run(op::embed_grad(ids, dx, d_table, spec));
    check_gradients({[&] { run(forward); }, {x}, {dx}, {{"table", table, d_table}}});
  }
}

TEST(Gradient, rms_norm) {
  for (const auto& [M, D] : {std::pair<int64_t, int64_t>{3, 7}, {1, 1}, {0, 4}, {5, 16}, {2, 33}}) {
    Workbench bench;
    const Tensor x = bench.normal(f64, {M, D}), w = bench.normal(f64, {D}, 0.5),
                 y = bench.output(f64, {M, D}), rstd = bench.output(f64, {M}), dy = bench.normal(f64, {M, D}),
                 dx = bench.output(f64, {M, D}), dw = zeros(bench, {D}), again = bench.output(f64, {M, D});
    const op::NormSpec spec{1e-2};
    const Call forward = op::rms_norm(x, w, y, rstd, spec);
    run(forward);
    run(op::rms_norm_grad(dy, x, w, rstd, {}, dx, dw, again, spec));
    EXPECT_EQ(op::load(again), op::load(y));
    check_gradients({[&] { run(forward); }, {y}, {dy}, {{"x", x, dx}, {"w", w, dw}}});
  }
}

// (x, f) -> (mid, norm(mid)) with and without a post-norm: the chain that a layer's backward pass runs.
TEST(Gradient, residual_norm) {
  for (const bool post : {false, true}) {
    for (const auto& [M, D] : {std::pair<int64_t, int64_t>{3, 7}, {1, 2}, {4, 17}}) {
      Workbench bench;
      const op::NormSpec spec{1e-2};
      const auto matrix = [&, M = M, D = D] { return bench.normal(f64, {M, D}); };
      const Tensor x = matrix(), f = matrix(), w = bench.normal(f64, {D}, 0.5),
                   w_post = post ? bench.normal(f64, {D}, 0.5) : Tensor{}, mid = matrix(), y = matrix(),
                   rstd = bench.output(f64, {M}), rstd_post = post ? bench.output(f64, {M}) : Tensor{};
      const Call forward = op::residual_norm(x, f, w_post, w, mid, y, rstd, rstd_post, spec);
      run(forward);
      const Tensor d_mid_direct = matrix(), dy = matrix(), d_mid = matrix(), dw = zeros(bench, {D});
      run(op::rms_norm_grad(dy, mid, w, rstd, d_mid_direct, d_mid, dw, {}, spec));
      Tensor df = d_mid, dw_post;
      if (post) {
        df = matrix();
        dw_post = zeros(bench, {D});
        run(op::rms_norm_grad(d_mid, f, w_post, rstd_post, {}, df, dw_post, {}, spec));
      }
      GradientCheck check{
          [&] { run(forward); }, {mid, y}, {d_mid_direct, dy}, {{"x", x, d_mid}, {"f", f, df}, {"w", w, dw}}};
      if (post) check.inputs.push_back({"w_post", w_post, dw_post});
      check_gradients(check);
    }
  }
}

TEST(Gradient, matmul) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{3, 5, 7}, {1, 1, 1}, {0, 2, 3}, {8, 4, 9}}) {
    Workbench bench;
    const Tensor x = bench.normal(f64, {m, k}), w = bench.normal(f64, {n, k}), y = bench.output(f64, {m, n}),
                 dy = bench.normal(f64, {m, n}), dx = bench.output(f64, {m, k}), dw = zeros(bench, {n, k});
    Tensor forward_w = w, backward_w = w;  // the reference's packed layouts are the plain rows
    forward_w.layout = Layout::packed_forward;
    backward_w.layout = Layout::packed_backward;
    const Call forward = op::matmul(x, forward_w, y);
    run(op::matmul_dx(dy, backward_w, dx));
    run(op::matmul_dw(dy, x, dw, {true}));
    check_gradients({[&] { run(forward); }, {y}, {dy}, {{"x", x, dx}, {"w", w, dw}}});
  }
}

TEST(Gradient, rope) {
  for (const bool norm : {false, true}) {
    for (const op::RopeSpec& spec : {op::RopeSpec{2, 1, 6, 1e-2}, {3, 3, 2, 1e-2}, {4, 2, 4, 1e-2}}) {
      Workbench bench;
      const int64_t M = 3, H = spec.head_dim, width = (spec.heads + 2 * spec.kv_heads) * H;
      const Tensor table = bench.output(f64, {M, H}), positions = bench.integers({M}, 0, 50);
      run(op::rope_table(positions, table, {100, 1}));
      const Tensor qkv = bench.normal(f64, {M, width}), out = bench.output(f64, {M, width}),
                   d_out = bench.normal(f64, {M, width}), d_qkv = bench.output(f64, {M, width});
      Tensor wq, wk, rstd, dwq, dwk;
      if (norm) {
        wq = bench.normal(f64, {H}, 0.5);
        wk = bench.normal(f64, {H}, 0.5);
        rstd = bench.output(f64, {M, spec.heads + spec.kv_heads});
        dwq = zeros(bench, {H});
        dwk = zeros(bench, {H});
      }
      const Call forward = op::rope(qkv, table, wq, wk, out, rstd, spec);
      run(forward);
      run(op::rope_grad(d_out, table, norm ? qkv : Tensor{}, wq, wk, rstd, d_qkv, dwq, dwk, spec));
      GradientCheck check{[&] { run(forward); }, {out}, {d_out}, {{"qkv", qkv, d_qkv}}};
      if (norm) {
        check.inputs.push_back({"wq", wq, dwq});
        check.inputs.push_back({"wk", wk, dwk});
      }
      check_gradients(check);
    }
  }
}

struct AttentionCase {
  int64_t B, T, S, N, K, H;
  int64_t window;
  double softcap;
  std::vector<int64_t> starts;  // of one sequence; empty: all zero
};

TEST(Gradient, attention) {
  const AttentionCase cases[] = {
      {1, 1, 1, 1, 1, 1, 0, 0, {}},
      {1, 5, 5, 1, 1, 3, 0, 0, {}},                    // one head
      {2, 5, 5, 4, 2, 3, 0, 0, {}},                    // grouped queries, two sequences
      {1, 6, 6, 3, 1, 2, 0, 0, {}},                    // multi-query
      {1, 7, 7, 2, 2, 4, 3, 0, {}},                    // window
      {1, 5, 5, 2, 1, 4, 0, 1.5, {}},                  // soft-cap
      {1, 6, 6, 2, 1, 3, 0, 0, {0, 0, 2, 2, 2, 5}},    // documents
      {1, 6, 6, 2, 1, 3, 2, 2.0, {0, 0, 2, 2, 2, 5}},  // all of it
      {2, 2, 5, 2, 1, 3, 0, 0, {}},                    // earlier keys in a cache
      {1, 3, 6, 2, 2, 3, 4, 3.0, {0, 2, 2}},
      {1, 0, 0, 2, 1, 2, 0, 0, {}},
  };
  for (const AttentionCase& c : cases) {
    SCOPED_TRACE("T " + std::to_string(c.T) + " S " + std::to_string(c.S) + " N " + std::to_string(c.N) +
                 " window " + std::to_string(c.window) + " softcap " + std::to_string(c.softcap));
    Workbench bench;
    const Shape queries{c.B * c.T, c.N * c.H}, keys{c.B * c.S, c.K * c.H};
    const Tensor q = bench.normal(f64, queries), k = bench.normal(f64, keys), v = bench.normal(f64, keys),
                 o = bench.output(f64, queries), lse = bench.output(f64, {c.N, c.B * c.T}),
                 d_o = bench.normal(f64, queries), dq = bench.output(f64, queries),
                 dk = bench.output(f64, keys), dv = bench.output(f64, keys);
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < c.B; ++b) {
      for (int64_t t = 0; t < c.T; ++t)
        starts.push_back(c.starts.empty() ? 0 : c.starts[static_cast<size_t>(t)]);
    }
    const Tensor first_seen = bench.integers({c.B * c.T}, starts);
    const op::AttentionSpec spec{c.B, c.N, c.K, c.H, 0.7, c.window, c.softcap};
    const Call forward = op::attention(q, k, v, first_seen, o, lse, spec);
    run(forward);
    run(op::attention_grad(d_o, q, k, v, o, lse, first_seen, dq, dk, dv, spec));
    check_gradients({[&] { run(forward); }, {o}, {d_o}, {{"q", q, dq}, {"k", k, dk}, {"v", v, dv}}});
  }
}

TEST(Gradient, activate) {
  for (const op::Activation activation : op::all_activations()) {
    SCOPED_TRACE(op::description_of(activation).name);
    for (const bool gated : {true, false}) {
      for (const auto& [M, F] : {std::pair<int64_t, int64_t>{3, 7}, {1, 1}, {0, 5}, {2, 17}}) {
        Workbench bench;
        const Shape wide{M, gated ? 2 * F : F};
        const Tensor pre = bench.normal(f64, wide, 2), act = bench.output(f64, {M, F}),
                     d_act = bench.normal(f64, {M, F}), d_pre = bench.output(f64, wide),
                     again = bench.output(f64, {M, F});
        const op::ActivationSpec spec{activation, gated};
        const Call forward = op::activate(pre, act, spec);
        run(forward);
        run(op::activate_grad(d_act, pre, d_pre, again, spec));
        EXPECT_EQ(op::load(again), op::load(act));
        check_gradients({[&] { run(forward); }, {act}, {d_act}, {{"pre", pre, d_pre}}});
      }
    }
  }
}

TEST(Gradient, loss) {
  for (const double softcap : {0.0, 2.0}) {
    for (const auto& [M, V, D] : {std::array<int64_t, 3>{5, 7, 3}, {1, 1, 1}, {0, 3, 2}, {6, 11, 9}}) {
      Workbench bench;
      const op::LossSpec spec{softcap, 2};
      const Tensor h = bench.normal(f64, {M, D}), table = bench.normal(f64, {V, D}),
                   targets = bench.integers({M}, -1, V - 1), losses = bench.output(f64, {M}),
                   again = bench.output(f64, {M}), dh = bench.output(f64, {M, D}),
                   d_table = zeros(bench, {V, D}), scale = bench.filled(f64, {1}, {0.25});
      if (M > 2) targets.as<int32_t>()[2] = -1;  // masked
      Tensor forward_table = table, backward_table = table;
      forward_table.layout = Layout::packed_forward;
      backward_table.layout = Layout::packed_backward;
      const Call forward = op::loss(h, forward_table, targets, losses, spec);
      run(forward);
      run(op::loss_grad(h, forward_table, backward_table, targets, scale, again, dh, d_table, spec));
      EXPECT_EQ(op::load(again), op::load(losses));
      if (M > 2) {
        EXPECT_EQ(op::load(losses)[2], 0) << "a masked token has no loss";
      }
      const Tensor along = bench.filled(f64, {M}, std::vector<double>(static_cast<size_t>(M), 0.25));
      check_gradients({[&] { run(forward); }, {losses}, {along}, {{"h", h, dh}, {"table", table, d_table}}});
    }
  }
}

// Three parts of a padded vocabulary, merged: the gradient of each part, and the sum of their dh.
TEST(Gradient, loss_by_parts) {
  constexpr int64_t M = 5, V = 8, D = 3, kRows = 3, kParts = 3;
  for (const double softcap : {0.0, 2.0}) {
    Workbench bench;
    const Tensor h = bench.normal(f64, {M, D}), targets = bench.integers({M}, -1, V - 1),
                 statistics = bench.output(f64, {3 * kParts, M}), losses = bench.output(f64, {M}),
                 norms = bench.output(f64, {2, M}), scale = bench.filled(f64, {1}, {0.25}),
                 dh = zeros(bench, {M, D}), whole = bench.output(f64, {M});
    targets.as<int32_t>()[2] = -1;  // masked
    const Tensor table = bench.normal(f64, {kParts * kRows, D}), d_table = zeros(bench, table.shape);
    const auto part = [&](int64_t i, Layout layout) {
      Tensor out = table.slice_rows(i * kRows, kRows);
      out.layout = layout;
      return out;
    };
    const auto spec = [&](int64_t i) {
      return op::LossPartSpec{softcap, 2, i * kRows, std::min(kRows, V - i * kRows)};
    };
    const auto forward = [&] {
      for (int64_t i = 0; i < kParts; ++i) {
        run(op::loss_statistics(h, part(i, Layout::packed_forward), targets, statistics.slice_rows(3 * i, 3),
                                spec(i)));
      }
      run(op::loss_merge(statistics, targets, losses, norms));
    };
    forward();
    Tensor tokens = table.slice_rows(0, V);
    tokens.layout = Layout::packed_forward;
    run(op::loss(h, tokens, targets, whole, {softcap, 2}));
    for (size_t m = 0; m < static_cast<size_t>(M); ++m) {
      EXPECT_NEAR(op::load(losses)[m], op::load(whole)[m], 1e-12) << "the loss of the whole vocabulary";
    }
    for (int64_t i = 0; i < kParts; ++i) {
      const Tensor partial = bench.output(f64, {M, D});
      run(op::loss_part_grad(h, part(i, Layout::packed_forward), part(i, Layout::packed_backward), targets,
                             scale, norms, partial, d_table.slice_rows(i * kRows, kRows), spec(i)));
      run(op::add(partial, dh));
    }
    const Tensor along = bench.filled(f64, {M}, std::vector<double>(static_cast<size_t>(M), 0.25));
    check_gradients({forward, {losses}, {along}, {{"h", h, dh}, {"table", table, d_table}}});
  }
}

}  // namespace
}  // namespace toroid::testing
