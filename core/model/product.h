// Products of activations with a unit's matrices, in both numeric modes and along a model axis. Where each
// rank of the axis holds a part of a contraction (heads or ffn), its part of the sum is fp32, and the sums of
// the ranks' own tokens are what is left; a group of one adds nothing and rounds as it multiplies. Several
// products that are added up are one partial sum, which travels once. In deterministic mode a contraction
// that the model axis may split is a tree over canonical slices summed in fp32, and each matrix, stacked or
// added, is a tree of its own over the ranks. M tokens, m ranks; "own" rows are M / m.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/model/context.h"

namespace toroid {

// Every rank's own rows [M / m, columns] -> [M, columns]; borrowed in a group of one. `use`, where given,
// launches what is done with rows of them, some while others travel.
Array gather_rows(const Context& c, const Tensor& own, const std::string& name, const RowWork& use = {},
                  std::string_view holder = kTemporary);
// Adds the ranks' fp32 [M, columns] and keeps the own rows, fp32[M / m, columns]. `make`, where given, writes
// the rows, some while others travel.
Array scatter_sum(const Context& c, Array partial, const RowWork& make, const std::string& name,
                  std::string_view holder = kTemporary);
// A sum in the compute type: itself, or rounded.
Array rounded(const Context& c, Array sum, std::string_view holder);

// y[M / m, n] = x W^T, added up over the terms, the contraction of each (heads or ffn) split over the ranks
// and their canonical `slices`.
struct ForwardTerm {
  Tensor x, w;  // w: packed_forward
};
Array contract(const Context& c, std::span<const ForwardTerm> terms, int64_t slices, const std::string& name,
               std::string_view holder);

// dy[rows, columns of all matrices] W for a group of stacked matrices; `slices` cut the contraction of each.
struct BackwardTerm {
  struct Matrix {
    int64_t columns, slices;
  };
  Tensor dy;
  const PackedMatrix& w;
  std::vector<Matrix> matrices;
};
// dx[M / m, k] = dy W, added up over the terms and the ranks; not rounded yet where it was a sum, so that
// what does not need it goes first.
Array contract_backward(const Context& c, std::span<const BackwardTerm> terms, const std::string& name);
// sum[M / m, k] += dy W of own rows and of matrices that no rank shares.
void add_backward(const Context& c, const BackwardTerm& whole, const Tensor& sum);

// dW (+)= dy^T x for matrices whose rows are stacked in dy's columns; gradients that are neighbours in memory
// are one product.
void weight_gradient(const Context& c, const Tensor& dy, const Tensor& x, std::span<Gradient> gradients);

}  // namespace toroid
