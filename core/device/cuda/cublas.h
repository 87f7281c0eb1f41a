// Products by cuBLASLt, in fp32 sums: of bf16 on tensor cores, of f32 in IEEE's fp32 (no TF32). How a shape
// is computed follows from the shape alone, for one version of the library and one kind of GPU: the first
// answer of its heuristic, among algorithms whose sums have one order. It is never found out by timing, so
// that a run gives the same bits as the one before it.
#pragma once

#include <memory>
#include <optional>

#include "core/device/cuda/matrix_product.h"
#include "core/device/product_ways.h"

namespace toroid::cuda {

class CublasProducts final : public ProductWays {
 public:
  // Any product may use so much, whatever its shape: what a step needs is then known without a GPU. As many
  // as NVIDIA recommends for Hopper.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // For the GPU in use. UserError where the library is not found, SystemError where it does not start.
  explicit CublasProducts(int gpu);
  ~CublasProducts();
  CublasProducts(CublasProducts&&) noexcept;
  CublasProducts& operator=(CublasProducts&&) noexcept;

  // Neither rows, columns nor depth are zero. `workspace`: kWorkspaceBytes on the device, which nobody else
  // uses in this entry of the stream. SystemError, which names call and shape, where the library refuses.
  void multiply(cudaStream_t stream, const MatrixProduct& product, std::byte* workspace);

  // Measurements know more ways than the program has: all answers of the heuristic, whatever the order of
  // their sums, the first of them first.
  int count() const override;
  void take(std::optional<int> nth) override;
  void leave_out(bool out) override;

 private:
  class Plans;
  std::unique_ptr<Plans> plans_;
};

}  // namespace toroid::cuda
