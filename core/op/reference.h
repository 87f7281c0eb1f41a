// Typed access for the reference kernels: every element as a double, whatever the tensor's type. Plain and
// slow: a kernel loads its inputs whole, computes in double, and rounds once when it stores. Packed weights
// hold plain rows here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor/tensor.h"

namespace toroid::op {

// All elements row by row, without the gaps of a strided view. Empty for an absent tensor.
std::vector<double> load(const Tensor& t);
std::vector<int64_t> load_integers(const Tensor& t);

// Rounds each value to the type of `t`.
void store(const Tensor& t, std::span<const double> values);

// `value` as an element of `type` would hold it.
double rounded(DType type, double value);

}  // namespace toroid::op
