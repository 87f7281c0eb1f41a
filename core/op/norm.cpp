// M tokens, D d_model.
#include "core/op/norm.h"

#include <cmath>

#include "core/op/check.h"
#include "core/op/elementwise.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

// One row: y = x * rstd * (1 + w), unrounded; returns rstd.
double norm_row(const double* x, const std::vector<double>& w, double eps, double* y) {
  const size_t D = w.size();
  double squares = 0;
  for (size_t d = 0; d < D; ++d) squares += x[d] * x[d];
  const double rstd = 1 / std::sqrt(squares / static_cast<double>(D) + eps);
  for (size_t d = 0; d < D; ++d) y[d] = x[d] * rstd * (1 + w[d]);
  return rstd;
}

Cost rms_norm_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 5 * call[0].elements();
  return cost;
}

void rms_norm_reference(const Call& call) {
  const std::vector<double> x = load(call[0]), w = load(call[1]);
  const size_t M = static_cast<size_t>(call[0].rows()), D = w.size();
  std::vector<double> y(x.size()), rstd(M);
  for (size_t m = 0; m < M; ++m) {
    rstd[m] = norm_row(&x[m * D], w, call.get<NormSpec>().eps, &y[m * D]);
  }
  store(call[2], y);
  if (call[3]) store(call[3], rstd);
}

Cost rms_norm_grad_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = (call[7] ? 13 : 10) * call[0].elements();
  return cost;
}

// With g = dy (1 + w):  dx = rstd g - x rstd^3 mean(g x);  dw += sum over tokens of dy x rstd.
void rms_norm_grad_reference(const Call& call) {
  const std::vector<double> dy = load(call[0]), x = load(call[1]), w = load(call[2]), rstd = load(call[3]),
                            skip = load(call[4]);
  std::vector<double> dw = load(call[6]), dx(x.size()), y(x.size());
  const size_t M = rstd.size(), D = w.size();
  for (size_t m = 0; m < M; ++m) {
    const double r = rstd[m];
    double dot = 0;
    for (size_t d = 0; d < D; ++d) dot += dy[m * D + d] * (1 + w[d]) * x[m * D + d];
    for (size_t d = 0; d < D; ++d) {
      const size_t i = m * D + d;
      dx[i] = r * dy[i] * (1 + w[d]) - x[i] * r * r * r * dot / static_cast<double>(D);
      if (!skip.empty()) dx[i] += skip[i];
      dw[d] += dy[i] * x[i] * r;
      y[i] = x[i] * r * (1 + w[d]);
    }
  }
  store(call[5], dx);
  store(call[6], dw);
  if (call[7]) store(call[7], y);
}

Cost residual_add_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = (call[2] ? 6 : 1) * call[0].elements();
  return cost;
}

void residual_add_reference(const Call& call) {
  std::vector<double> out = load(call[0]), f = load(call[1]);
  const std::vector<double> w = load(call[2]);
  if (call[2]) {
    const size_t M = static_cast<size_t>(call[0].rows()), D = w.size();
    std::vector<double> rstd(M);
    for (size_t m = 0; m < M; ++m) {
      rstd[m] = norm_row(&f[m * D], w, call.get<NormSpec>().eps, &f[m * D]);
    }
    for (double& value : f) value = rounded(call[1].type, value);
    if (call[4]) store(call[4], rstd);
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] += f[i];
  store(call[3], out);
}

// out = x; out += norm(f).
void residual_add_expand(const Call& call, Issuer& issuer) {
  const Tensor &x = call[0], &w_post = call[2], &out = call[3];
  Tensor f = call[1];
  if (w_post) {
    f = issuer.temporary(f.type, f.shape);
    issue_part(issuer, call, rms_norm(call[1], w_post, f, call[4], call.get<NormSpec>()));
  }
  const bool in_place = out.block == x.block && out.offset_bytes == x.offset_bytes;
  if (!in_place) issue_part(issuer, call, cast(x, out));
  issue_part(issuer, call, add(f, out));
}

Cost residual_norm_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = (call[2] ? 11 : 6) * call[0].elements();
  return cost;
}

// The two operators that residual_norm stands for.
std::array<Call, 2> parts_of_residual_norm(const Call& call) {
  const auto& spec = call.get<NormSpec>();
  return {residual_add(call[0], call[1], call[2], call[4], call[7], spec),
          rms_norm(call[4], call[3], call[5], call[6], spec)};
}

void residual_norm_reference(const Call& call) {
  for (const Call& part : parts_of_residual_norm(call)) part.kind->reference(part);
}

void residual_norm_expand(const Call& call, Issuer& issuer) {
  for (const Call& part : parts_of_residual_norm(call)) issue_part(issuer, call, part);
}

void check_same(std::string_view op, const Tensor& x, const Tensor& y, std::string_view y_name) {
  check(is_float(x) && x.type == y.type && x.shape == y.shape && is_dense_matrix(x) && is_dense_matrix(y), op,
        "dense matrices [M, D] of one float type", {{"x", x}, {y_name, y}});
}

void check_weight(std::string_view op, const Tensor& x, const Tensor& w) {
  check(is_float(w) && is_vector(w, x.shape[1]), op, "x [M, D], w [D]", {{"x", x}, {"w", w}});
}

void check_rstd(std::string_view op, const Tensor& x, const Tensor& rstd) {
  check(is_exact(rstd, x.type) && is_vector(rstd, x.shape[0]), op, "x [M, D], rstd f32[M]",
        {{"x", x}, {"rstd", rstd}});
}

}  // namespace

constinit const OpKind rms_norm_kind{
    .name = "rms_norm", .cost = rms_norm_cost, .reference = rms_norm_reference};
constinit const OpKind rms_norm_grad_kind{
    .name = "rms_norm_grad", .cost = rms_norm_grad_cost, .reference = rms_norm_grad_reference};
constinit const OpKind residual_add_kind{.name = "residual_add",
                                         .cost = residual_add_cost,
                                         .reference = residual_add_reference,
                                         .expand = residual_add_expand};
constinit const OpKind residual_norm_kind{.name = "residual_norm",
                                          .cost = residual_norm_cost,
                                          .reference = residual_norm_reference,
                                          .expand = residual_norm_expand};

Call rms_norm(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& rstd, NormSpec spec) {
  check_same("rms_norm", x, y, "y");
  check_weight("rms_norm", x, w);
  if (rstd) check_rstd("rms_norm", x, rstd);
  return {&rms_norm_kind,
          {{x, Access::in}, {w, Access::in}, {y, Access::out}, {rstd, Access::out}},
          spec,
          {},
          {}};
}

Call rms_norm_grad(const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& rstd, const Tensor& skip,
                   const Tensor& dx, const Tensor& dw, const Tensor& y, NormSpec spec) {
  check_same("rms_norm_grad", x, dy, "dy");
  check_same("rms_norm_grad", x, dx, "dx");
  check_weight("rms_norm_grad", x, w);
  check_rstd("rms_norm_grad", x, rstd);
  check(is_gradient(dw, x.type) && is_vector(dw, x.shape[1]), "rms_norm_grad", "x [M, D], dw f32[D]",
        {{"x", x}, {"dw", dw}});
  if (skip) check_same("rms_norm_grad", x, skip, "skip");
  if (y) check_same("rms_norm_grad", x, y, "y");
  return {&rms_norm_grad_kind,
          {{dy, Access::in},
           {x, Access::in},
           {w, Access::in},
           {rstd, Access::in},
           {skip, Access::in},
           {dx, Access::out},
           {dw, Access::inout},
           {y, Access::out}},
          spec,
          {},
          Phase::backward};
}

Call residual_add(const Tensor& x, const Tensor& f, const Tensor& w_post, const Tensor& out,
                  const Tensor& rstd_post, NormSpec spec) {
  check_same("residual_add", x, f, "f");
  check_same("residual_add", x, out, "out");
  if (w_post) check_weight("residual_add", x, w_post);
  if (rstd_post) check_rstd("residual_add", x, rstd_post);
  return {
      &residual_add_kind,
      {{x, Access::in}, {f, Access::in}, {w_post, Access::in}, {out, Access::out}, {rstd_post, Access::out}},
      spec,
      {},
      {}};
}

Call residual_norm(const Tensor& x, const Tensor& f, const Tensor& w_post, const Tensor& w, const Tensor& mid,
                   const Tensor& y, const Tensor& rstd, const Tensor& rstd_post, NormSpec spec) {
  check_same("residual_norm", x, f, "f");
  check_same("residual_norm", x, mid, "mid");
  check_same("residual_norm", x, y, "y");
  check_weight("residual_norm", x, w);
  if (w_post) check_weight("residual_norm", x, w_post);
  if (rstd) check_rstd("residual_norm", x, rstd);
  if (rstd_post) check_rstd("residual_norm", x, rstd_post);
  return {&residual_norm_kind,
          {{x, Access::in},
           {f, Access::in},
           {w_post, Access::in},
           {w, Access::in},
           {mid, Access::out},
           {y, Access::out},
           {rstd, Access::out},
           {rstd_post, Access::out}},
          spec,
          {},
          {}};
}

}  // namespace toroid::op
