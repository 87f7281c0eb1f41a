// M tokens, V vocabulary, D d_model.
#include "core/op/loss.h"

#include <algorithm>
#include <cmath>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost loss_cost(const Call& call) {
  const Tensor &h = call[0], &table = call[1];
  const int64_t M = h.shape[0], D = h.shape[1], V = table.shape[0];
  Cost cost = traffic(call);
  cost.products.push_back({M, V, D, 1, h.type});
  cost.vector_flops = (call.get<LossSpec>().softcap > 0 ? 12 : 4) * M * V;
  return cost;
}

Cost loss_grad_cost(const Call& call) {
  const Tensor &h = call[0], &table = call[1];
  const int64_t M = h.shape[0], D = h.shape[1], V = table.shape[0];
  Cost cost = traffic(call);
  cost.products.push_back({M, V, D, 1, h.type});
  cost.products.push_back({M, D, V, 1, h.type});
  cost.products.push_back({V, D, M, 1, h.type});
  cost.vector_flops = (call.get<LossSpec>().softcap > 0 ? 18 : 8) * M * V;
  return cost;
}

// One token: writes the capped logits and returns the log of the sum of their exponentials.
double logits_of(const double* h, const std::vector<double>& table, double softcap,
                 std::vector<double>& logits, size_t D) {
  for (size_t v = 0; v < logits.size(); ++v) {
    double z = 0;
    for (size_t d = 0; d < D; ++d) z += h[d] * table[v * D + d];
    logits[v] = softcap > 0 ? softcap * std::tanh(z / softcap) : z;
  }
  const double top = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const double z : logits) total += std::exp(z - top);
  return top + std::log(total);
}

void loss_reference(const Call& call) {
  const std::vector<double> h = load(call[0]), table = load(call[1]);
  const std::vector<int64_t> target = load_integers(call[2]);
  const size_t D = static_cast<size_t>(call[0].shape[1]);
  std::vector<double> losses(target.size(), 0.0), logits(static_cast<size_t>(call[1].shape[0]));
  for (size_t m = 0; m < target.size(); ++m) {
    if (target[m] < 0) continue;
    const double lse = logits_of(&h[m * D], table, call.get<LossSpec>().softcap, logits, D);
    losses[m] = lse - logits.at(static_cast<size_t>(target[m]));
  }
  store(call[3], losses);
}

// d_logit = scale (softmax - onehot), through the soft-cap's slope 1 - (z / cap)^2.
void loss_grad_reference(const Call& call) {
  const std::vector<double> h = load(call[0]), table = load(call[1]), table_backward = load(call[2]),
                            scale = load(call[4]);
  const std::vector<int64_t> target = load_integers(call[3]);
  const double softcap = call.get<LossSpec>().softcap;
  const size_t D = static_cast<size_t>(call[0].shape[1]), V = static_cast<size_t>(call[1].shape[0]);
  std::vector<double> losses(target.size(), 0.0), dh(h.size(), 0.0), d_table = load(call[7]), logits(V);
  for (size_t m = 0; m < target.size(); ++m) {
    if (target[m] < 0) continue;
    const double lse = logits_of(&h[m * D], table, softcap, logits, D);
    losses[m] = lse - logits.at(static_cast<size_t>(target[m]));
    for (size_t v = 0; v < V; ++v) {
      double d_logit = std::exp(logits[v] - lse) - (static_cast<int64_t>(v) == target[m] ? 1 : 0);
      d_logit *= scale[0];
      if (softcap > 0) d_logit *= 1 - (logits[v] / softcap) * (logits[v] / softcap);
      for (size_t d = 0; d < D; ++d) {
        dh[m * D + d] += d_logit * table_backward[v * D + d];
        d_table[v * D + d] += d_logit * h[m * D + d];
      }
    }
  }
  store(call[5], losses);
  store(call[6], dh);
  store(call[7], d_table);
}

// A vocabulary in one part: what loss and its gradient have in common. Returns the normalisers.
Tensor expand_loss(const Call& call, const Tensor& targets, const Tensor& token_loss, LossPartSpec spec,
                   Issuer& issuer) {
  const int64_t M = call[0].rows(), slices = call.tiles.deterministic ? call.tiles.slices : 1;
  const Tensor statistics = issuer.temporary(token_loss.type, {3 * slices, M}),
               normalisers = issuer.temporary(token_loss.type, {2, M});
  issue_part(issuer, call, loss_statistics(call[0], call[1], targets, statistics, spec));
  issue_part(issuer, call, loss_merge(statistics, targets, token_loss, normalisers));
  return normalisers;
}

LossPartSpec whole_vocabulary(const Call& call) {
  const auto& spec = call.get<LossSpec>();
  return {spec.softcap, spec.block_tokens, 0, call[1].rows()};
}

void loss_expand(const Call& call, Issuer& issuer) {
  expand_loss(call, call[2], call[3], whole_vocabulary(call), issuer);
}

void loss_grad_expand(const Call& call, Issuer& issuer) {
  const LossPartSpec spec = whole_vocabulary(call);
  const Tensor normalisers = expand_loss(call, call[3], call[5], spec, issuer);
  issue_part(
      issuer, call,
      loss_part_grad(call[0], call[1], call[2], call[3], call[4], normalisers, call[6], call[7], spec));
}

Cost softcap_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 8 * call[0].elements();
  return cost;
}

void softcap_reference(const Call& call) {
  const double cap = call.get<SoftcapSpec>().cap;
  std::vector<double> x = load(call[0]);
  for (double& value : x) value = cap * std::tanh(value / cap);
  store(call[1], x);
}

void check_loss(std::string_view op, const Tensor& h, const Tensor& table, const Tensor& targets,
                const Tensor& token_loss, LossSpec spec) {
  check(is_float(h) && h.type == table.type && is_dense_matrix(h) && table.shape.rank() == 2 &&
            table.layout == Layout::packed_forward && h.shape[1] == table.shape[1] && table.shape[0] > 0,
        op, "h [M, D] and table packed_forward [V, D] of one type", {{"h", h}, {"table", table}});
  check(targets.type == DType::i32 && is_vector(targets, h.shape[0]) && is_exact(token_loss, h.type) &&
            is_vector(token_loss, h.shape[0]),
        op, "h [M, D], targets i32[M], token_loss f32[M]",
        {{"h", h}, {"targets", targets}, {"token_loss", token_loss}});
  check(spec.softcap >= 0 && spec.block_tokens > 0, op, "softcap >= 0 and block_tokens > 0", {{"h", h}});
}

}  // namespace

constinit const OpKind loss_kind{
    .name = "loss", .cost = loss_cost, .reference = loss_reference, .expand = loss_expand};
constinit const OpKind loss_grad_kind{.name = "loss_grad",
                                      .cost = loss_grad_cost,
                                      .reference = loss_grad_reference,
                                      .expand = loss_grad_expand};
constinit const OpKind softcap_kind{.name = "softcap", .cost = softcap_cost, .reference = softcap_reference};

Call loss(const Tensor& h, const Tensor& table, const Tensor& targets, const Tensor& token_loss,
          LossSpec spec) {
  check_loss("loss", h, table, targets, token_loss, spec);
  return {&loss_kind,
          {{h, Access::in}, {table, Access::in}, {targets, Access::in}, {token_loss, Access::out}},
          spec,
          {},
          {}};
}

Call loss_grad(const Tensor& h, const Tensor& table, const Tensor& table_backward, const Tensor& targets,
               const Tensor& scale, const Tensor& token_loss, const Tensor& dh, const Tensor& d_table,
               LossSpec spec) {
  check_loss("loss_grad", h, table, targets, token_loss, spec);
  check(table_backward.type == table.type && table_backward.shape == table.shape &&
            table_backward.layout == Layout::packed_backward,
        "loss_grad", "one table in both packed layouts",
        {{"table", table}, {"table_backward", table_backward}});
  check(is_exact(scale, h.type) && is_vector(scale, 1), "loss_grad", "scale f32[1]", {{"scale", scale}});
  check(dh.type == h.type && dh.shape == h.shape && is_dense_matrix(dh), "loss_grad", "one shape and type",
        {{"h", h}, {"dh", dh}});
  check(is_gradient(d_table, h.type) && d_table.shape == table.shape && is_dense_matrix(d_table), "loss_grad",
        "table [V, D], d_table f32[V, D]", {{"table", table}, {"d_table", d_table}});
  return {&loss_grad_kind,
          {{h, Access::in},
           {table, Access::in},
           {table_backward, Access::in},
           {targets, Access::in},
           {scale, Access::in},
           {token_loss, Access::out},
           {dh, Access::out},
           {d_table, Access::inout}},
          spec,
          {},
          Phase::backward};
}

Call softcap(const Tensor& x, const Tensor& y, SoftcapSpec spec) {
  check(is_float(x) && x.type == y.type && x.shape == y.shape && x.dense() && y.dense() &&
            x.layout == Layout::plain && y.layout == Layout::plain && spec.cap > 0,
        "softcap", "one shape and float type, cap > 0", {{"x", x}, {"y", y}});
  return {&softcap_kind, {{x, Access::in}, {y, Access::out}}, spec, {}, {}};
}

}  // namespace toroid::op
