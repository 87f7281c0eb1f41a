// Sums and maxima of arrays element by element, and the bf16 wire.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/comm/communicator.h"

namespace toroid {

// to = a (+ or max) b; `to` may be a or b. bf16 is computed in fp32 and rounded once; integers wrap, so that
// a sum of u8 is also one of int8.
void combine(DType type, Combine how, std::byte* to, const std::byte* a, const std::byte* b,
             int64_t elements);

// The balanced binary tree over `blocks` summands in order, ((0+1)+(2+3))+..., as a binary counter: two sums
// over as many become one. summand(i, entry) says where summand i is; add(entry, last, a, b) adds two and
// says where the result is, which may be a; entries count from 0 to the binary logarithm of `blocks` rounded
// up, and what lies in one is free once it has been added. Returns where the sum over all is.
template <class Summand, class Add>
const std::byte* sum_as_tree(int blocks, const Summand& summand, const Add& add) {
  constexpr size_t kEntries = 32;
  std::array<const std::byte*, kEntries> stack{};
  std::array<int, kEntries> summed{};  // in that entry
  size_t depth = 0;
  for (int i = 0; i < blocks; ++i) {
    stack[depth] = summand(i, static_cast<int64_t>(depth));
    summed[depth++] = 1;
    const bool last = i + 1 == blocks;
    while (depth > 1 && (last || summed[depth - 1] == summed[depth - 2])) {
      const size_t entry = depth - 2;
      stack[entry] = add(static_cast<int64_t>(entry), last && depth == 2, stack[entry], stack[entry + 1]);
      summed[entry] += summed[entry + 1];
      --depth;
    }
  }
  return stack[0];
}

// Rounds fp32 values to bf16, in the array itself too: all ranks then go on from the same numbers.
void round_onto_wire(float* values, uint16_t* wire, int64_t elements);
void combine_from_wire(Combine how, float* to, const uint16_t* wire, int64_t elements);
void take_from_wire(float* to, const uint16_t* wire, int64_t elements);

}  // namespace toroid
