// Products by cuBLASLt, in fp32 sums: of bf16 on tensor cores, of f32 in IEEE's fp32 (no TF32). How a shape
// is computed follows from the shape alone, for one version of the library and one kind of GPU: the first
// answer of its heuristic, among algorithms whose sums have one order. It is never found out by timing, so
// that a run gives the same bits as the one before it.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "core/device/cuda/matrix_product.h"
#include "core/device/product_ways.h"

namespace toroid::cuda {

class CublasProducts final : public ProductWays {
 public:
  // Any product may use so much, whatever its shape: what a step needs is then known without a GPU. As many
  // as NVIDIA recommends for Hopper.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // For the GPU in use. SystemError where the library is not found, or does not start.
  explicit CublasProducts(int gpu);

  // Neither rows, columns nor depth are zero. `workspace`: kWorkspaceBytes on the device, which nobody else
  // uses in this entry of the stream. SystemError, which names call and shape, where the library refuses.
  void multiply(cudaStream_t stream, const MatrixProduct& product, std::byte* workspace);

  // Measurements know more ways than the program has: all answers of the heuristic, whatever the order of
  // their sums, the first of them first.
  int count() const override { return ways_; }
  void take(std::optional<int> nth) override { nth_ = nth; }
  void leave_out(bool out) override { left_out_ = out; }

 private:
  // What decides how a product is computed, and all that its descriptors say.
  struct Shape {
    int64_t rows, columns, depth, a_stride, b_stride, out_stride;
    bool a_turned, b_turned;
    DType type, out_type;
    uint32_t a_alignment, b_alignment, out_alignment;
    auto operator<=>(const Shape&) const = default;  // NOLINT(modernize-use-nullptr): of the compiler's 0
  };
  template <class T, cublasStatus_t (*kDestroy)(T*)>
  struct Destroy {
    void operator()(T* one) const { (void)kDestroy(one); }
  };
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                                 Destroy<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>>;
  using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t,
                                    Destroy<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>>;
  using Preference =
      std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                      Destroy<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>>;
  using Handle = std::unique_ptr<cublasLtContext, Destroy<cublasLtContext, cublasLtDestroy>>;
  struct Plan {
    Operation operation;
    Layout a, b, out;
    cublasLtMatmulAlgo_t algorithm{};
    int ways = 1;
  };
  const Plan& plan_of(const Shape& shape);
  Plan make_plan(const Shape& shape);
  Layout make_layout(const Shape& shape, DType type, int64_t rows, int64_t columns, int64_t stride) const;
  void check(cublasStatus_t code, std::string_view call, const Shape& shape) const;

  int gpu_;
  Handle handle_;
  std::map<std::pair<Shape, std::optional<int>>, Plan> plans_;  // the program's, and those of ways
  std::optional<int> nth_;
  int ways_ = 1;
  bool left_out_ = false;
};

}  // namespace toroid::cuda
