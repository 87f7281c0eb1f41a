#include "core/op/embedding.h"

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

// Charged as one row read and one written a token: the table's other rows are not touched.
Cost embed_cost(const Call& call) {
  const Tensor &ids = call[0], &table = call[1], &x = call[2];
  Cost cost;
  cost.vector_flops = x.elements();
  cost.bytes_read = ids.bytes() + x.elements() * bytes_of(table.type);
  cost.bytes_written = x.bytes();
  return cost;
}

void embed_reference(const Call& call) {
  const auto& spec = call.get<EmbedSpec>();
  const Tensor& out = call[2];
  const std::vector<int64_t> ids = load_integers(call[0]);
  const std::vector<double> table = load(call[1]);
  const int64_t V = call[1].rows(), D = call[1].columns();
  const double scale = rounded(out.type, spec.scale);
  std::vector<double> x(static_cast<size_t>(out.elements()), 0.0);
  for (size_t m = 0; m < ids.size(); ++m) {
    const int64_t row = ids[m] - spec.first_row;
    if (row < 0 || row >= V) continue;
    for (int64_t d = 0; d < D; ++d) {
      x[m * static_cast<size_t>(D) + static_cast<size_t>(d)] =
          scale * rounded(out.type, table[static_cast<size_t>(row * D + d)]);
    }
  }
  store(out, x);
}

Cost embed_grad_cost(const Call& call) {
  const Tensor &ids = call[0], &dx = call[1], &d_table = call[2];
  const int64_t touched = dx.elements() * bytes_of(d_table.type);
  Cost cost;
  cost.vector_flops = 2 * dx.elements();
  cost.bytes_read = ids.bytes() + dx.bytes() + touched;
  cost.bytes_written = touched;
  return cost;
}

void embed_grad_reference(const Call& call) {
  const auto& spec = call.get<EmbedSpec>();
  const std::vector<int64_t> ids = load_integers(call[0]);
  const std::vector<double> dx = load(call[1]);
  std::vector<double> d_table = load(call[2]);
  const int64_t V = call[2].rows(), D = call[2].columns();
  const double scale = rounded(call[1].type, spec.scale);
  for (size_t m = 0; m < ids.size(); ++m) {
    const int64_t row = ids[m] - spec.first_row;
    if (row < 0 || row >= V) continue;
    for (int64_t d = 0; d < D; ++d) {
      d_table[static_cast<size_t>(row * D + d)] +=
          scale * dx[m * static_cast<size_t>(D) + static_cast<size_t>(d)];
    }
  }
  store(call[2], d_table);
}

void check_embed(std::string_view op, const Tensor& ids, const Tensor& table, const Tensor& x) {
  check(ids.type == DType::i32 && is_dense_matrix(table) && is_dense_matrix(x) &&
            is_vector(ids, x.shape[0]) && x.shape[1] == table.shape[1] && is_float(x) && is_float(table),
        op, "ids i32[M], table [V, D], x [M, D]", {{"ids", ids}, {"table", table}, {"x", x}});
}

}  // namespace

constinit const OpKind embed_kind{.name = "embed", .cost = embed_cost, .reference = embed_reference};
constinit const OpKind embed_grad_kind{
    .name = "embed_grad", .cost = embed_grad_cost, .reference = embed_grad_reference};

Call embed(const Tensor& ids, const Tensor& table, const Tensor& x, EmbedSpec spec) {
  check_embed("embed", ids, table, x);
  return {&embed_kind, {{ids, Access::in}, {table, Access::in}, {x, Access::out}}, spec, {}, {}};
}

Call embed_grad(const Tensor& ids, const Tensor& dx, const Tensor& d_table, EmbedSpec spec) {
  check_embed("embed_grad", ids, d_table, dx);
  check(is_gradient(d_table, dx.type), "embed_grad", "d_table is f32", {{"d_table", d_table}});
  return {&embed_grad_kind, {{ids, Access::in}, {dx, Access::in}, {d_table, Access::inout}}, spec, {}, {}};
}

}  // namespace toroid::op
