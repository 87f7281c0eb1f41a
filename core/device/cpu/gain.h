// A norm's gain 1 + w in fp32, formed once a call so that the rows do not convert it again.
#pragma once

#include "core/base/round_up.h"
#include "core/device/cpu/matrix.h"

namespace toroid::cpu {

// Floats that fill_gain writes, padded so that what follows is aligned; 0 without a weight.
inline int64_t gain_floats(const Tensor& w) {
  return w ? round_up(w.elements(), 16) : 0;
}

inline const float* fill_gain(const Tensor& w, float* gain) {
  if (!w) return nullptr;
  for (int64_t i = 0; i < w.elements(); ++i) {
    gain[i] = 1.0f + (w.type == DType::bf16 ? from_bf16(w.as<const uint16_t>()[i]) : w.as<const float>()[i]);
  }
  return gain;
}

}  // namespace toroid::cpu
