// Panels of columns, each from its diagonal downwards, in fp32; what lies above is their mirror image. n rows
// and columns of the result, k contracted.
#include "core/op/symmetric_product.h"

#include <algorithm>

#include "core/device/cuda/libraries.h"
#include "core/device/cuda/mirror.h"
#include "core/device/cuda/product_kernels.h"
#include "core/device/cuda/types.h"

namespace toroid::cuda {
namespace {

// Columns of a panel. Narrower ones would compute less above the diagonal, and leave a GPU's processors idle:
// 2048 by 2048 are about one tile for each of an H100's.
constexpr int64_t kPanelColumns = 2048;

int64_t contracted(const Call& call) {
  return call[0].shape[call.get<op::SymmetricProductSpec>().transposed ? 0 : 1];
}

// A sum of no terms is the tree's too: the library takes no empty matrices.
bool sums_in_tree(const Call& call) {
  return call.tiles.deterministic || contracted(call) == 0;
}

int64_t symmetric_workspace(const Call& call, const LaunchContext&) {
  const int64_t n = call[3].rows(), panel = n * std::min(n, kPanelColumns) * bytes_of(DType::f32);
  return panel == 0 || sums_in_tree(call) ? panel : CublasProducts::kWorkspaceBytes + panel;
}

// The rows of the result from `first` on.
Factor factor_from(const Tensor& t, bool transposed, int64_t first) {
  Factor factor(t, transposed);
  factor.data += first * (transposed ? 1 : t.row_stride) * bytes_of(t.type);
  return factor;
}

void multiply_symmetric(const Call& call, const LaunchContext& context) {
  const Tensor &a = call[0], &b = call[1], &out = call[3];
  with_types(call, a, out, [](auto, auto) {});  // f32 and bf16 alone
  const bool transposed = call.get<op::SymmetricProductSpec>().transposed, in_tree = sums_in_tree(call);
  auto* const stream = static_cast<cudaStream_t>(context.stream);
  std::byte* const sums = context.workspace + (in_tree ? 0 : CublasProducts::kWorkspaceBytes);
  const int64_t n = out.rows();
  for (int64_t first = 0; first < n; first += kPanelColumns) {
    const int64_t width = std::min(kPanelColumns, n - first);
    const MatrixProduct product{.rows = n - first,
                                .columns = width,
                                .depth = contracted(call),
                                .type = a.type,
                                .a = factor_from(a, transposed, first),
                                .b = factor_from(b, transposed, first),
                                .out = sums,
                                .out_stride = width};
    in_tree ? multiply_in_tree(stream, product, {})
            : libraries_of(context).products.multiply(stream, product, context.workspace);
    finish_panel(stream, call, {reinterpret_cast<const float*>(sums), first, width});
  }
}

}  // namespace

void add_symmetric_product_kernel(KernelRegistry& registry) {
  registry.add(op::symmetric_product_kind, {multiply_symmetric, symmetric_workspace});
}

}  // namespace toroid::cuda
