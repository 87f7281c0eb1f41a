// What a team keeps of a row. It is read once and stays in registers, up to kSlots vectors a thread; kSlots 0
// is for rows of any length, which are read again: every thread sees the same elements each time.
#pragma once

#include "core/device/cuda/team.h"
#include "core/device/cuda/vectors.h"

namespace toroid::cuda {

template <int kSlots, int kWidth, class Team, class F>
TOROID_DEVICE void walk(Team& team, int n, const F& f) {
  if constexpr (kSlots == 0) {
    sweep<kWidth>(team, n, f);
  } else {
    each<kSlots, kWidth>(team, n, f);
  }
}

template <class V, int kSlots>
struct Kept {
  V of[kSlots == 0 ? 1 : kSlots];
};

// The row that begins `offset` elements behind the first; null where there is none.
template <class T, class Void>
TOROID_DEVICE T* at_row(Void* first, int64_t offset) {
  return first == nullptr ? nullptr : static_cast<T*>(first) + offset;
}

// A norm's gain 1 + w, of weights of either type.
template <int kWidth>
TOROID_DEVICE Floats<kWidth> load_gain(const void* w, bool bf16, int64_t i) {
  Floats<kWidth> out =
      bf16 ? load<kWidth>(static_cast<const Bf16*>(w) + i) : load<kWidth>(static_cast<const float*>(w) + i);
  TOROID_UNROLL
  for (float& v : out.v) v = 1.0f + v;
  return out;
}

}  // namespace toroid::cuda
