// A checkpoint's tensor as numbers, whatever its type, piece by piece.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "train/checkpoint/checkpoint.h"

namespace toroid {

// Whether elements of the type can be read as numbers here.
bool is_number(ElementType type);

// Gives all elements in order, in pieces that take little memory. UserError where the bytes are not those
// that were saved, or are of no type that is_number().
void for_each_piece(CheckpointReader& reader, const CheckpointTensor& tensor,
                    const std::function<void(int64_t first, std::span<const float>)>& piece);

// Elements [first, first + out.size()).
void read_elements(CheckpointReader& reader, const CheckpointTensor& tensor, int64_t first,
                   std::span<float> out);

// `values` as elements of f32 or bf16, the latter rounded to nearest.
void write_elements(std::span<const float> values, ElementType type, std::span<std::byte> out);

struct ElementStatistics {
  int64_t elements = 0, zeros = 0, not_finite = 0;
  // Of the finite ones; 0 where there are none.
  double least = 0, most = 0, mean = 0, deviation = 0, rms = 0;
};
ElementStatistics statistics_of(CheckpointReader& reader, const CheckpointTensor& tensor);

}  // namespace toroid
