// Products of activations with a unit's matrices, in both numeric modes. In deterministic mode a contraction
// that the model axis may split is a tree over canonical slices summed in fp32, and stacked matrices are
// separate trees.
#pragma once

#include "core/model/context.h"

namespace toroid {

// y = x W^T where the contraction (heads or ffn) may be split.
void contract(const Context& c, const Tensor& x, const Tensor& w_forward, const Tensor& y, int64_t slices);

// dx = dy W. `columns` are the widths of the stacked matrices in dy; `slices` cut each of them.
void contract_backward(const Context& c, const Tensor& dy, const PackedMatrix& w, const Tensor& dx,
                       std::initializer_list<int64_t> columns, int64_t slices);

// dW (+)= dy^T x for matrices whose rows are stacked in dy's columns; gradients that are neighbours in memory
// are one product.
void weight_gradient(const Context& c, const Tensor& dy, const Tensor& x, std::span<Gradient> gradients);

}  // namespace toroid
