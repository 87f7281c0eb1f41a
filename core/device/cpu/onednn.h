// Matrix products by oneDNN: C[m, n] (+)= A[m, k] B[k, n], with fp32 accumulation. A and C are dense and
// row-major; B is packed in the one layout that its size, its type and the machine fix. Primitives are made
// once per shape and kept; scratch memory comes from the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/device/cpu/instruction_set.h"
#include "core/tensor/tensor.h"

namespace toroid::cpu {

// The order of B's elements: blocks of k_block x n_block elements, k_block innermost over n-blocks, and in a
// block groups of `group` neighbours along k. Not blocked (no such kernel on this machine): `transposed` says
// that element (k, n) stands at n K + k rather than at k N + n.
struct PackedFormat {
  DType type = DType::f32;
  int64_t k = 0, n = 0;
  bool blocked = false, transposed = false;
  int64_t k_block = 1, n_block = 1, group = 1;

  int64_t padded_k() const { return (k + k_block - 1) / k_block * k_block; }
  int64_t padded_n() const { return (n + n_block - 1) / n_block * n_block; }
  int64_t bytes() const { return padded_k() * padded_n() * bytes_of(type); }
  // Position of element (row, column) of B, in elements.
  int64_t index(int64_t row, int64_t column) const {
    if (!blocked) return transposed ? column * k + row : row * n + column;
    const int64_t in_block = (row % k_block / group * n_block + column % n_block) * group + row % group;
    return column / n_block * n_block * padded_k() + row / k_block * k_block * n_block + in_block;
  }
  // Of the columns before `first`, a multiple of n_block: where a slice of columns begins. Only where blocked
  // or transposed is a slice of columns contiguous.
  int64_t column_bytes(int64_t first) const { return first * padded_k() * bytes_of(type); }
};

// `transposed` is the order of the source's elements, kept where the machine has no blocked layout.
PackedFormat packed_format(DType product_type, int64_t k, int64_t n, bool transposed);
// bf16 elements that are widened a panel at a time (pack.h), on every machine alike: blocks of 64 columns,
// one row after the other, which is the order of most machines' fp32 panels.
PackedFormat widened_format(int64_t k, int64_t n);

// A product of one shape, made for a number of threads.
class Product {
 public:
  struct Shape {
    int64_t m = 0, n = 0, k = 0;
    DType type = DType::f32, out = DType::f32;  // out: type, or f32
    bool transposed = false;                    // B's source order, see PackedFormat
    bool accumulate = false;
    int threads = 1;
    auto operator<=>(const Shape&) const = default;
  };
  // From a bounded cache shared by the process, since oneDNN compiles code for each.
  static std::shared_ptr<const Product> get(const Shape& shape);

  Product();
  ~Product();
  Product(const Product&) = delete;  // shared through the cache instead
  Product& operator=(const Product&) = delete;

  int64_t scratch_bytes() const { return scratch_bytes_; }

 private:
  friend class ProductRun;
  struct Parts;
  std::unique_ptr<Parts> parts_;
  int64_t scratch_bytes_ = 0;
};

// One thread's right to execute a product, any number of times.
class ProductRun {
 public:
  explicit ProductRun(std::shared_ptr<const Product> product);
  ~ProductRun();
  ProductRun(const ProductRun&) = delete;  // its handles are set for each execution
  ProductRun& operator=(const ProductRun&) = delete;
  void operator()(const void* a, const void* b, void* c, std::byte* scratch);

 private:
  struct Handles;
  std::shared_ptr<const Product> product_;
  std::unique_ptr<Handles> handles_;
};

// One thread's products of several shapes, made when first asked for: for kernels that go through many
// blocks, where making a run would cost as much as a small product.
class ProductRuns {
 public:
  ProductRun& operator()(const Product::Shape& shape);

 private:
  struct Entry {
    Product::Shape shape;
    std::unique_ptr<ProductRun> run;
  };
  std::vector<Entry> entries_;
};

// Sets the number of OpenMP threads for the enclosed calls of oneDNN.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;  // restores once
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace toroid::cpu
