// Sums and maxima of arrays element by element, and the bf16 wire.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/comm/communicator.h"

namespace toroid {

// to = a (+ or max) b; `to` may be a or b. bf16 is computed in fp32 and rounded once; integers wrap, so that
// a sum of u8 is also one of int8.
void combine(DType type, Combine how, std::byte* to, const std::byte* a, const std::byte* b,
             int64_t elements);

// Rounds fp32 values to bf16, in the array itself too: all ranks then go on from the same numbers.
void round_onto_wire(float* values, uint16_t* wire, int64_t elements);
void combine_from_wire(Combine how, float* to, const uint16_t* wire, int64_t elements);
void take_from_wire(float* to, const uint16_t* wire, int64_t elements);

}  // namespace toroid
