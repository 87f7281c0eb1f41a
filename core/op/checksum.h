// Checksums of arrays, by which it is found that memory has changed although nothing was written
// (core/base/checksum.h). Integers, so every device has the same ones.
#pragma once

#include <span>

#include "core/op/op.h"

namespace toroid::op {

inline constexpr int64_t kChecksumBlock = 4096;  // elements
constexpr int64_t checksum_blocks(int64_t elements) {
  return (elements + kChecksumBlock - 1) / kChecksumBlock;
}

// What a comparison finds: how many blocks differ, which row is the first, and by how much its sums do.
struct Differing {
  enum : int { count, first, sum, weighted };
};
inline constexpr int64_t kDifferingSize = 4;

extern const OpKind checksum_kind, compare_checksums_kind;

// Arrays of one length, n elements of 4 or 2 bytes -> i64[arrays * blocks, 2]: of each block of each array in
// turn its sum and its weighted sum. Of 2 bytes, two elements make a word; the last may lack its second.
Call checksum(std::span<const Tensor> arrays, const Tensor& sums);
// i64[n, 2] each -> i64[kDifferingSize], as Differing says.
Call compare_checksums(const Tensor& expected, const Tensor& found, const Tensor& differing);

}  // namespace toroid::op
