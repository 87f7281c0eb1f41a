// A unit's tensors laid out in one flat fp32 buffer. Initialisation, norm, decay, hash and checkpoint walk
// the one table of slices; flat buffers themselves are never saved.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/decoder_config.h"

namespace toroid {

struct Slice {
  int64_t offset = 0;    // first element in the flat buffer, a multiple of the padding block
  int64_t elements = 0;  // of the tensor, without padding
};

struct Unit {
  UnitSpec spec;
  std::vector<Slice> slices;  // one for each tensor of the spec
  int64_t flat_elements = 0;  // with padding
};

// Slices are padded to blocks of op::kReduceBlock elements, so that a block never holds two tensors: sums
// over blocks are then the same however the buffer is cut.
Unit make_unit(UnitSpec spec);

}  // namespace toroid
