// The loss where the table holds a part of the vocabulary. M tokens, V rows of the table here, D d_model.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/op/check.h"
#include "core/op/loss.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

Cost statistics_cost(const Call& call) {
  const Tensor &h = call[0], &table = call[1];
  Cost cost = traffic(call);
  cost.products.push_back({h.rows(), table.rows(), h.columns(), 1, h.type});
  cost.vector_flops = (call.get<LossPartSpec>().softcap > 0 ? 12 : 4) * h.rows() * table.rows();
  return cost;
}

Cost merge_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 2 * call[0].elements();
  return cost;
}

Cost part_grad_cost(const Call& call) {
  const Tensor &h = call[0], &table = call[1];
  const int64_t M = h.rows(), D = h.columns(), V = table.rows();
  Cost cost = traffic(call);
  cost.products.push_back({M, V, D, 1, h.type});
  cost.products.push_back({M, D, V, 1, h.type});
  cost.products.push_back({V, D, M, 1, h.type});
  cost.vector_flops = (call.get<LossPartSpec>().softcap > 0 ? 18 : 8) * M * V;
  return cost;
}

double capped_logit(const double* h, const double* row, size_t D, double softcap) {
  double z = 0;
  for (size_t d = 0; d < D; ++d) z += h[d] * row[d];
  return softcap > 0 ? softcap * std::tanh(z / softcap) : z;
}

// Neighbours first; a slice without rows changes nothing.
void meet(double& max, double& sum, double other_max, double other_sum) {
  if (other_sum == 0 && other_max == kNone) return;
  const double top = std::max(max, other_max);
  sum = sum * std::exp(max - top) + other_sum * std::exp(other_max - top);
  max = top;
}

void statistics_reference(const Call& call) {
  const auto& spec = call.get<LossPartSpec>();
  const std::vector<double> h = load(call[0]), table = load(call[1]);
  const std::vector<int64_t> target = load_integers(call[2]);
  const size_t M = target.size(), D = static_cast<size_t>(call[0].columns());
  const auto slices = static_cast<size_t>(call[3].rows() / 3);
  const auto V = call[1].rows(), each = (V + static_cast<int64_t>(slices) - 1) / static_cast<int64_t>(slices);
  std::vector<double> out(3 * slices * M, 0.0);
  for (size_t s = 0; s < slices; ++s) {
    double *const max = out.data() + 3 * s * M, *const sum = max + M, *const hit = sum + M;
    std::fill(max, max + M, kNone);
    const int64_t begin = std::min(spec.valid, static_cast<int64_t>(s) * each),
                  end = std::min(spec.valid, begin + each);
    for (size_t m = 0; m < M; ++m) {
      for (int64_t v = begin; v < end; ++v) {
        const double z = capped_logit(&h[m * D], &table[static_cast<size_t>(v) * D], D, spec.softcap);
        meet(max[m], sum[m], z, 1);
        if (target[m] == spec.first_token + v) hit[m] = z;
      }
    }
  }
  store(call[3], out);
}

void merge_reference(const Call& call) {
  std::vector<double> all = load(call[0]);
  const std::vector<int64_t> target = load_integers(call[1]);
  const size_t M = target.size(), slices = static_cast<size_t>(call[0].rows() / 3);
  std::vector<double> losses(M), norms(2 * M);
  for (size_t m = 0; m < M; ++m) {
    double max = kNone, sum = 0, hit = 0;
    for (size_t s = 0; s < slices; ++s) {
      meet(max, sum, all[3 * s * M + m], all[(3 * s + 1) * M + m]);
      hit += all[(3 * s + 2) * M + m];
    }
    norms[m] = max;
    norms[M + m] = max + std::log(sum);
    losses[m] = target[m] < 0 ? 0 : norms[M + m] - hit;
  }
  store(call[2], losses);
  store(call[3], norms);
}

void part_grad_reference(const Call& call) {
  const auto& spec = call.get<LossPartSpec>();
  const std::vector<double> h = load(call[0]), table = load(call[1]), table_backward = load(call[2]),
                            scale = load(call[4]), norms = load(call[5]);
  const std::vector<int64_t> target = load_integers(call[3]);
  const size_t D = static_cast<size_t>(call[0].columns());
  std::vector<double> dh(h.size(), 0.0), d_table = load(call[7]);
  for (size_t m = 0; m < target.size(); ++m) {
    if (target[m] < 0) continue;
    for (size_t v = 0; v < static_cast<size_t>(spec.valid); ++v) {
      const double z = capped_logit(&h[m * D], &table[v * D], D, spec.softcap);
      double d_logit = std::exp(z - norms[target.size() + m]);
      if (target[m] == spec.first_token + static_cast<int64_t>(v)) d_logit -= 1;
      d_logit *= scale[0];
      if (spec.softcap > 0) d_logit *= 1 - (z / spec.softcap) * (z / spec.softcap);
      for (size_t d = 0; d < D; ++d) {
        dh[m * D + d] += d_logit * table_backward[v * D + d];
        d_table[v * D + d] += d_logit * h[m * D + d];
      }
    }
  }
  store(call[6], dh);
  store(call[7], d_table);
}

bool is_normalisers(const Tensor& t, DType type, int64_t tokens) {
  return t.type == type && is_matrix(t) && t.shape == Shape{2, tokens};
}

void check_part(std::string_view op, const Tensor& h, const Tensor& table, const Tensor& targets,
                const LossPartSpec& spec) {
  check(is_float(h) && h.type == table.type && is_dense_matrix(h) && table.shape.rank() == 2 &&
            table.layout == Layout::packed_forward && h.columns() == table.columns(),
        op, "h [M, D] and table packed_forward [V, D] of one type", {{"h", h}, {"table", table}});
  check(targets.type == DType::i32 && is_vector(targets, h.rows()), op, "h [M, D], targets i32[M]",
        {{"h", h}, {"targets", targets}});
  check(spec.softcap >= 0 && spec.block_tokens > 0 && spec.valid >= 0 && spec.valid <= table.rows(), op,
        "softcap >= 0, block_tokens > 0 and valid rows are rows of the table", {{"table", table}});
}

}  // namespace

constinit const OpKind loss_statistics_kind{
    .name = "loss_statistics", .cost = statistics_cost, .reference = statistics_reference};
constinit const OpKind loss_merge_kind{
    .name = "loss_merge", .cost = merge_cost, .reference = merge_reference};
constinit const OpKind loss_part_grad_kind{
    .name = "loss_part_grad", .cost = part_grad_cost, .reference = part_grad_reference};

Call loss_statistics(const Tensor& h, const Tensor& table, const Tensor& targets, const Tensor& statistics,
                     LossPartSpec spec) {
  check_part("loss_statistics", h, table, targets, spec);
  check(is_exact(statistics, h.type) && is_matrix(statistics) && statistics.rows() % 3 == 0 &&
            statistics.columns() == h.rows(),
        "loss_statistics", "h [M, D], statistics f32[3 S, M]", {{"h", h}, {"statistics", statistics}});
  return {&loss_statistics_kind,
          {{h, Access::in}, {table, Access::in}, {targets, Access::in}, {statistics, Access::out}},
          spec,
          {},
          {}};
}

Call loss_merge(const Tensor& statistics, const Tensor& targets, const Tensor& token_loss,
                const Tensor& normalisers) {
  check(is_exact(statistics, statistics.type) && is_dense_matrix(statistics) && statistics.rows() % 3 == 0 &&
            targets.type == DType::i32 && is_vector(targets, statistics.columns()),
        "loss_merge", "statistics f32[3 S, M], targets i32[M]",
        {{"statistics", statistics}, {"targets", targets}});
  check(token_loss.type == statistics.type && is_vector(token_loss, statistics.columns()) &&
            is_normalisers(normalisers, statistics.type, statistics.columns()) && normalisers.dense(),
        "loss_merge", "token_loss f32[M], normalisers f32[2, M]",
        {{"token_loss", token_loss}, {"normalisers", normalisers}});
  return {&loss_merge_kind,
          {{statistics, Access::in},
           {targets, Access::in},
           {token_loss, Access::out},
           {normalisers, Access::out}},
          {},
          {},
          {}};
}

Call loss_part_grad(const Tensor& h, const Tensor& table, const Tensor& table_backward, const Tensor& targets,
                    const Tensor& scale, const Tensor& normalisers, const Tensor& dh, const Tensor& d_table,
                    LossPartSpec spec) {
  check_part("loss_part_grad", h, table, targets, spec);
  check(table_backward.type == table.type && table_backward.shape == table.shape &&
            table_backward.layout == Layout::packed_backward,
        "loss_part_grad", "one table in both packed layouts",
        {{"table", table}, {"table_backward", table_backward}});
  check(is_exact(scale, h.type) && is_vector(scale, 1) && is_exact(normalisers, h.type) &&
            is_normalisers(normalisers, normalisers.type, h.rows()),
        "loss_part_grad", "scale f32[1], normalisers f32[2, M]",
        {{"scale", scale}, {"normalisers", normalisers}});
  check((dh.type == h.type || is_exact(dh, h.type)) && dh.shape == h.shape && is_dense_matrix(dh),
        "loss_part_grad", "dh of h's shape, of its type or f32", {{"h", h}, {"dh", dh}});
  check(is_gradient(d_table, h.type) && d_table.shape == table.shape && is_dense_matrix(d_table),
        "loss_part_grad", "table [V, D], d_table f32[V, D]", {{"table", table}, {"d_table", d_table}});
  return {&loss_part_grad_kind,
          {{h, Access::in},
           {table, Access::in},
           {table_backward, Access::in},
           {targets, Access::in},
           {scale, Access::in},
           {normalisers, Access::in},
           {dh, Access::out},
           {d_table, Access::inout}},
          spec,
          {},
          Phase::backward};
}

}  // namespace toroid::op
