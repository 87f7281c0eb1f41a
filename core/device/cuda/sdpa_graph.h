// Attention of one sequence as graphs that cuDNN knows as scaled dot product attention: the operations, their
// order and which of them meet in memory are what its fused kernels are recognised by. T queries and keys, N
// query heads, K key/value heads, H head_dim; q, k, v, o and their gradients are bf16[T, heads H] with rows
// some elements apart, lse f32[N, T].
#pragma once

#include <compare>
#include <span>
#include <vector>

#include "core/device/cuda/cudnn_graph.h"
#include "core/op/attention.h"

namespace toroid::cuda {

// What decides the kernel.
struct SdpaShape {
  bool backward = false;
  int64_t T = 0, N = 0, K = 0, H = 0;
  int64_t lse_stride = 0;  // from head to head
  // Rows of q, k, v, o; backward also of d_o, dq, dk, dv.
  std::array<int64_t, 8> strides{};
  double scale = 1, softcap = 0;
  int64_t window = 0;
  bool documents = true;                               // keys begin at `starts`
  auto operator<=>(const SdpaShape&) const = default;  // NOLINT(modernize-use-nullptr): of the compiler's 0
};

// Memory of a graph, in the order in which values are bound to it. sums: f32[N, T], scratch of backward.
struct SdpaGraph {
  CudnnGraph graph;
  CudnnGraph::Value q, k, v, o, lse, starts;  // starts where the shape has documents
  CudnnGraph::Value d_o, dq, dk, dv, sums;    // of backward
};
SdpaGraph sdpa_graph(const SdpaShape& shape);

}  // namespace toroid::cuda
