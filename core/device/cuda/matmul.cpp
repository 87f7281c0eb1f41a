// m tokens, n outputs, k inputs.
#include "core/op/matmul.h"

#include "core/device/cuda/libraries.h"
#include "core/device/cuda/product_kernels.h"
#include "core/device/cuda/types.h"

namespace toroid::cuda {
namespace {

MatrixProduct product_of(const Call& call) {
  const Tensor &left = call[0], &right = call[1], &out = call[2];
  const bool of_tokens = call.kind == &op::matmul_dw_kind, by_inputs = call.kind == &op::matmul_kind;
  return {.rows = out.rows(),
          .columns = out.columns(),
          .depth = of_tokens ? left.rows() : left.columns(),
          .type = left.type,
          .a = Factor(left, of_tokens),
          .b = Factor(right, !by_inputs),
          .out_type = out.type,
          .out = out.data(),
          .out_stride = out.row_stride,
          .accumulate = call.get<op::MatmulSpec>().accumulate};
}

// A sum of no terms is the tree's too: the library takes no empty matrices.
bool by_tree(const Call& call) {
  return call.tiles.deterministic || call[0].elements() == 0;
}

void multiply_matrices(const Call& call, const LaunchContext& context) {
  with_types(call, call[0], call[2], [](auto, auto) {});  // f32 and bf16 alone
  if (call[2].elements() == 0) return;
  const MatrixProduct product = product_of(call);
  auto* const stream = static_cast<cudaStream_t>(context.stream);
  if (!by_tree(call)) return libraries_of(context).products.multiply(stream, product, context.workspace);
  const bool of_tokens = call.kind == &op::matmul_dw_kind;
  multiply_in_tree(stream, product,
                   of_tokens ? Cut{.block = call.tiles.token_block} : Cut{.slices = call.tiles.slices});
}

int64_t product_workspace(const Call& call, const LaunchContext&) {
  return by_tree(call) || call[2].elements() == 0 ? 0 : CublasProducts::kWorkspaceBytes;
}

}  // namespace

void add_matmul_kernels(KernelRegistry& registry) {
  for (const OpKind* kind : {&op::matmul_kind, &op::matmul_dx_kind, &op::matmul_dw_kind}) {
    registry.add(*kind, {multiply_matrices, product_workspace});
  }
}

}  // namespace toroid::cuda
