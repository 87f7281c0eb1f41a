// What the stand-in for cuDNN knows of a graph of operations, and how it computes one: operation after
// operation, on the host, in fp32, with every value in memory.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace toroid::testing::stand_in {

using CudnnDims = std::array<int64_t, 4>;

struct CudnnTensor {
  int64_t id = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  CudnnDims dims{}, strides{};
  int64_t alignment = 1;
  bool is_virtual = false, by_value = false;
  int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

struct CudnnOperation {
  enum class Kind { pointwise, multiply, reduce, reshape };
  Kind kind = Kind::pointwise;
  int mode = 0;          // of pointwise operations and reductions
  int64_t axis = 0;      // of CUDNN_POINTWISE_GEN_INDEX
  int64_t x = 0, y = 0;  // ids of operands; y: the second one, 0 where there is none
  int64_t which = 0;     // of CUDNN_POINTWISE_BINARY_SELECT
  int64_t out = 0;
};

struct CudnnProgram {
  std::map<int64_t, CudnnTensor> tensors;
  std::vector<CudnnOperation> operations;  // each after what it reads

  // Whether shapes and types fit each other, every operand was made before it is read, and memory is written
  // once.
  bool is_sound() const;
  // Whether cuDNN 9.19 has a kernel for it: where rows have a largest, their log-sum-exp is wanted.
  bool has_kernel() const;
  // What cuDNN 9.19 wants on an H200 where a matrix of pairs is read after it was turned, and where several
  // heads are summed into one (../cudnn_plans_test.cpp).
  int64_t workspace_bytes() const;
  // `memory`: of every tensor that is not virtual, scalars' included.
  void run(const std::map<int64_t, void*>& memory) const;
};

}  // namespace toroid::testing::stand_in
