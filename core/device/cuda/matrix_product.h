// A product of two matrices, as kinds of operators ask for it (matmul.cpp, symmetric_product.cu, the loss).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/tensor/tensor.h"

namespace toroid::cuda {

// One factor. A row of memory is what one row (or column) of the result sums over, or, `turned`, what all of
// them have at one step of the sum.
struct Factor {
  const std::byte* data = nullptr;
  int64_t stride = 0;  // elements from one row of memory to the next
  bool turned = false;

  Factor() = default;
  Factor(const Tensor& t, bool is_turned) : data(t.data()), stride(t.row_stride), turned(is_turned) {}
};

// out[rows, columns] (+)= sum over i < depth of a(row, i) b(column, i), summed in fp32 and rounded once.
struct MatrixProduct {
  int64_t rows = 0, columns = 0, depth = 0;
  DType type = DType::f32;  // of a and b: f32 or bf16
  Factor a = {}, b = {};
  DType out_type = DType::f32;  // f32 or bf16
  std::byte* out = nullptr;
  int64_t out_stride = 0;
  bool accumulate = false;
};

// Where the sum of deterministic mode is cut: into `slices` equal pieces or, where `block` is given, into
// pieces of so many elements.
struct Cut {
  int64_t slices = 1, block = 0;
};

// The canonical sum (docs/design.md section 4), whatever the number of rows and columns: within a piece one
// fused multiply-add after the other, pieces added by the balanced binary tree. Gives the CPU's bits. A sum
// of nothing is zero.
void multiply_in_tree(cudaStream_t stream, const MatrixProduct& product, Cut cut);

}  // namespace toroid::cuda
