// M tokens, N query heads, K key/value heads, H head_dim.
#include "core/op/rope.h"

#include <cmath>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost rope_table_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 20 * call[1].elements();
  return cost;
}

void rope_table_reference(const Call& call) {
  const auto& spec = call.get<RopeTableSpec>();
  const std::vector<int64_t> positions = load_integers(call[0]);
  const size_t H = static_cast<size_t>(call[1].shape[1]), half = H / 2;
  std::vector<double> table(positions.size() * H);
  for (size_t m = 0; m < positions.size(); ++m) {
    for (size_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(H);
      const auto frequency = static_cast<float>(std::pow(spec.base, exponent) / spec.scale);
      const float angle = static_cast<float>(positions[m]) * frequency;
      table[m * H + i] = std::cos(static_cast<double>(angle));
      table[m * H + half + i] = std::sin(static_cast<double>(angle));
    }
  }
  store(call[1], table);
}

struct RopeSizes {
  size_t M, N, K, H, width, turned;  // turned: heads that are rotated, N + K
  RopeSizes(const Tensor& qkv, const RopeSpec& spec)
      : M(static_cast<size_t>(qkv.shape[0])),
        N(static_cast<size_t>(spec.heads)),
        K(static_cast<size_t>(spec.kv_heads)),
        H(static_cast<size_t>(spec.head_dim)),
        width((N + 2 * K) * H),
        turned(N + K) {}
};

Cost rope_cost(const Call& call) {
  const auto& spec = call.get<RopeSpec>();
  const int64_t turned = call[0].shape[0] * (spec.heads + spec.kv_heads) * spec.head_dim;
  Cost cost = traffic(call);
  cost.vector_flops = (call[2] ? 8 : 3) * turned;
  return cost;
}

void rope_reference(const Call& call) {
  const auto& spec = call.get<RopeSpec>();
  const RopeSizes size(call[0], spec);
  const size_t H = size.H, half = H / 2;
  const std::vector<double> table = load(call[1]), wq = load(call[2]), wk = load(call[3]);
  std::vector<double> x = load(call[0]), rstd(size.M * size.turned);
  for (size_t m = 0; m < size.M; ++m) {
    const double *cosines = &table[m * H], *sines = cosines + half;
    for (size_t n = 0; n < size.turned; ++n) {
      double* row = &x[m * size.width + n * H];
      if (call[2]) {
        const std::vector<double>& w = n < size.N ? wq : wk;
        double squares = 0;
        for (size_t h = 0; h < H; ++h) squares += row[h] * row[h];
        const double r = 1 / std::sqrt(squares / static_cast<double>(H) + spec.eps);
        for (size_t h = 0; h < H; ++h) row[h] = rounded(call[0].type, row[h] * r * (1 + w[h]));
        rstd[m * size.turned + n] = r;
      }
      for (size_t i = 0; i < half; ++i) {
        const double a = row[i], b = row[half + i];
        row[i] = a * cosines[i] - b * sines[i];
        row[half + i] = b * cosines[i] + a * sines[i];
      }
    }
  }
  store(call[4], x);
  if (call[5]) store(call[5], rstd);
}

Cost rope_grad_cost(const Call& call) {
  const auto& spec = call.get<RopeSpec>();
  const int64_t turned = call[0].shape[0] * (spec.heads + spec.kv_heads) * spec.head_dim;
  Cost cost = traffic(call);
  cost.vector_flops = (call[3] ? 13 : 3) * turned;
  return cost;
}

void rope_grad_reference(const Call& call) {
  const auto& spec = call.get<RopeSpec>();
  const RopeSizes size(call[0], spec);
  const size_t H = size.H, half = H / 2;
  const bool norm = static_cast<bool>(call[3]);
  const std::vector<double> table = load(call[1]), qkv = load(call[2]), wq = load(call[3]),
                            wk = load(call[4]), rstd = load(call[5]);
  std::vector<double> dx = load(call[0]), dwq = load(call[7]), dwk = load(call[8]);
  for (size_t m = 0; m < size.M; ++m) {
    const double *cosines = &table[m * H], *sines = cosines + half;
    for (size_t n = 0; n < size.turned; ++n) {
      double* row = &dx[m * size.width + n * H];
      for (size_t i = 0; i < half; ++i) {
        const double a = row[i], b = row[half + i];
        row[i] = a * cosines[i] + b * sines[i];
        row[half + i] = b * cosines[i] - a * sines[i];
      }
      if (!norm) continue;
      const std::vector<double>& w = n < size.N ? wq : wk;
      std::vector<double>& dw = n < size.N ? dwq : dwk;
      const double* x = &qkv[m * size.width + n * H];
      const double r = rstd[m * size.turned + n];
      double dot = 0;
      for (size_t h = 0; h < H; ++h) dot += row[h] * (1 + w[h]) * x[h];
      for (size_t h = 0; h < H; ++h) {
        const double dy = row[h];
        dw[h] += dy * x[h] * r;
        row[h] = r * dy * (1 + w[h]) - x[h] * r * r * r * dot / static_cast<double>(H);
      }
    }
  }
  store(call[6], dx);
  if (norm) {
    store(call[7], dwq);
    store(call[8], dwk);
  }
}

void check_rope(std::string_view op, const Tensor& qkv, const Tensor& table, const Tensor& out,
                const RopeSpec& spec) {
  check(is_float(qkv) && qkv.type == out.type && qkv.shape == out.shape && is_dense_matrix(qkv) &&
            is_dense_matrix(out) && qkv.shape[1] == (spec.heads + 2 * spec.kv_heads) * spec.head_dim,
        op, "two dense [M, (N + 2K) H] of one type", {{"input", qkv}, {"output", out}});
  check(is_exact(table, qkv.type) && is_dense_matrix(table) &&
            table.shape == Shape{qkv.shape[0], spec.head_dim} && spec.head_dim % 2 == 0,
        op, "qkv [M, (N + 2K) H], table f32[M, H], H even", {{"qkv", qkv}, {"table", table}});
}

void check_rope_norm(std::string_view op, const Tensor& qkv, const Tensor& wq, const Tensor& wk,
                     const Tensor& rstd, const RopeSpec& spec) {
  check(is_float(wq) && is_float(wk) && is_vector(wq, spec.head_dim) && is_vector(wk, spec.head_dim), op,
        "[H] and [H]", {{"wq", wq}, {"wk", wk}});
  check(is_exact(rstd, qkv.type) && is_dense_matrix(rstd) &&
            rstd.shape == Shape{qkv.shape[0], spec.heads + spec.kv_heads},
        op, "qkv [M, (N + 2K) H], rstd f32[M, N + K]", {{"qkv", qkv}, {"rstd", rstd}});
}

}  // namespace

constinit const OpKind rope_table_kind{
    .name = "rope_table", .cost = rope_table_cost, .reference = rope_table_reference};
constinit const OpKind rope_kind{.name = "rope", .cost = rope_cost, .reference = rope_reference};
constinit const OpKind rope_grad_kind{
    .name = "rope_grad", .cost = rope_grad_cost, .reference = rope_grad_reference};

Call rope_table(const Tensor& positions, const Tensor& table, RopeTableSpec spec) {
  check(positions.type == DType::i32 && is_exact(table, DType::f64) && is_dense_matrix(table) &&
            is_vector(positions, table.shape[0]) && table.shape[1] % 2 == 0,
        "rope_table", "positions i32[M], table f32[M, H], H even",
        {{"positions", positions}, {"table", table}});
  return {&rope_table_kind, {{positions, Access::in}, {table, Access::out}}, spec, {}, {}};
}

Call rope(const Tensor& qkv, const Tensor& table, const Tensor& wq, const Tensor& wk, const Tensor& out,
          const Tensor& rstd, RopeSpec spec) {
  check_rope("rope", qkv, table, out, spec);
  if (wq || wk || rstd) check_rope_norm("rope", qkv, wq, wk, rstd, spec);
  return {&rope_kind,
          {{qkv, Access::in},
           {table, Access::in},
           {wq, Access::in},
           {wk, Access::in},
           {out, Access::out},
           {rstd, Access::out}},
          spec,
          {},
          {}};
}

Call rope_grad(const Tensor& d_out, const Tensor& table, const Tensor& qkv, const Tensor& wq,
               const Tensor& wk, const Tensor& rstd, const Tensor& d_qkv, const Tensor& dwq,
               const Tensor& dwk, RopeSpec spec) {
  check_rope("rope_grad", d_out, table, d_qkv, spec);
  if (wq || wk || rstd || dwq || dwk) {
    check_rope("rope_grad", qkv, table, d_qkv, spec);
    check_rope_norm("rope_grad", qkv, wq, wk, rstd, spec);
    check(is_gradient(dwq, qkv.type) && is_gradient(dwk, qkv.type) && is_vector(dwq, spec.head_dim) &&
              is_vector(dwk, spec.head_dim),
          "rope_grad", "f32[H] and f32[H]", {{"dwq", dwq}, {"dwk", dwk}});
  }
  // Without norms the forward input is not read, so it is not an operand either.
  return {&rope_grad_kind,
          {{d_out, Access::in},
           {table, Access::in},
           {wq ? qkv : Tensor{}, Access::in},
           {wq, Access::in},
           {wk, Access::in},
           {rstd, Access::in},
           {d_qkv, Access::out},
           {dwq, Access::inout},
           {dwk, Access::inout}},
          spec,
          {},
          Phase::backward};
}

}  // namespace toroid::op
