// The calls whose results are hashed (kernel_hashes.h): of every kind that Toroid's own CUDA kernels compute,
// in fp32 and bf16, with sizes that take the kernels' vectors and sizes that do not. Inputs are made of
// integers and powers of two alone, so that every machine has the same: no library's mathematics, no other
// kernel's results.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "tests/core/op/workbench.h"

namespace toroid::testing {

// splitmix64, one stream for each `which`.
class FixedWords {
 public:
  explicit FixedWords(uint64_t which) : at_(which << 32) {}
  uint64_t next();

 private:
  uint64_t at_;
};

// A call's operands. `which` tells those of one call apart: in what order a compiler makes arguments is its
// own affair.
class FixedInputs {
 public:
  explicit FixedInputs(Workbench& bench) : bench_(bench) {}
  Tensor output(DType type, Shape shape, int64_t row_stride = 0) {
    return bench_.output(type, shape, row_stride);
  }
  Tensor filled(DType type, Shape shape, std::initializer_list<double> values) {
    return bench_.filled(type, shape, values);
  }
  // In [-2, 2) units, and in [1, 2) units, with as many random bits as the type holds. The unit is a power of
  // two.
  Tensor numbers(uint64_t which, DType type, Shape shape, double unit = 1, int64_t row_stride = 0);
  Tensor positive(uint64_t which, DType type, Shape shape, double unit = 1);
  Tensor integers(uint64_t which, Shape shape, int64_t first, int64_t last);
  Tensor integers(Shape shape, std::span<const int64_t> values) { return bench_.integers(shape, values); }
  Tensor packed(const Tensor& plain, Layout layout) { return bench_.packed(plain, layout); }

 private:
  Workbench& bench_;
};

struct HashCase {
  const OpKind* kind;
  std::string name;  // among those of its kind; the type first
  std::function<Call(FixedInputs&)> build;
  // Only operations that IEEE defines and ours made of them, in one order: a GPU has the same bits. What is
  // not, takes the GPU's own exponential and reciprocal (numbers.h) or its tensor cores (fragments.h).
  bool exact = true;
};
using HashCases = std::vector<HashCase>;

void add_layer_hash_cases(HashCases& cases);    // hash_cases_layers.cpp
void add_product_hash_cases(HashCases& cases);  // hash_cases_products.cpp
void add_update_hash_cases(HashCases& cases);   // hash_cases_update.cpp

inline constexpr DType kHashedTypes[] = {DType::f32, DType::bf16};
inline std::string text_of(DType type) {
  return std::string(name_of(type));
}

}  // namespace toroid::testing
