// The MLP's activation and its gradient. M tokens, F ffn hidden per branch.
#include "core/op/activation.h"

#include "core/device/cpu/activation_rows.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"

namespace toroid::cpu {
namespace {

void run_rows(const Call& call, ActivationRows rows, const Tensor& pre, int threads) {
  rows.spec = call.get<op::ActivationSpec>();
  rows.F = rows.spec.gated ? pre.columns() / 2 : pre.columns();
  rows.pre = Matrix(pre);
  const auto run = pre.type == DType::bf16 ? activation_rows_bf16 : activation_rows_f32;
  parallel_ranges(pre.rows(), 1, 2 * pre.bytes(), threads,
                  [&](Range range) { run(rows, range.first, range.last); });
}

void activate(const Call& call, const LaunchContext& context) {
  if (!one_type({&call[0], &call[1]})) return call.kind->reference(call);
  ActivationRows rows;
  rows.act = Matrix(call[1]);
  run_rows(call, rows, call[0], context.threads);
}

void activate_grad(const Call& call, const LaunchContext& context) {
  if (!one_type({&call[0], &call[1], &call[2], &call[3]})) return call.kind->reference(call);
  ActivationRows rows;
  rows.d_act = Matrix(call[0]);
  rows.d_pre = Matrix(call[2]);
  rows.act = Matrix(call[3]);
  run_rows(call, rows, call[1], context.threads);
}

}  // namespace

void add_activation_kernels(KernelRegistry& registry) {
  registry.add(op::activate_kind, {activate});
  registry.add(op::activate_grad_kind, {activate_grad});
}

}  // namespace toroid::cpu
