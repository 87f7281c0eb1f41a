// What the kernels of attention share: sizes, which keys a query sees, and what a score is before the
// softmax. B sequences of T queries and S keys, N query heads, K key/value heads, H head_dim
// (core/op/attention.h).
#pragma once

#include <algorithm>
#include <string>

#include "core/base/error.h"
#include "core/device/cuda/tiles.h"
#include "core/op/attention.h"

namespace toroid::cuda {

// The widest head there are kernels for.
inline constexpr int kWidestHead = 256;

struct AttentionShape {
  int64_t B;
  int T, S, N, K, H;
  int window;             // 0: none
  const int32_t* starts;  // [B T]
  // A score is `factor` units; a unit is q.k, or with a soft-cap tanh(before q.k).
  float before, factor, scale;
  bool capped, wide;

  TOROID_DEVICE int last_seen(int t) const { return t + S - T; }
  TOROID_DEVICE int first_seen(int64_t b, int t) const {
    const int start = starts[b * T + t], last = last_seen(t);
    const int first = start < 0 ? 0 : start;
    return window > 0 && last - window + 1 > first ? last - window + 1 : first;
  }
  TOROID_DEVICE int kv_head(int n) const { return static_cast<int>(static_cast<int64_t>(n) * K / N); }
};

// Exponentials in T's precision: powers of two by the GPU's own instruction where the result is rounded to
// bf16.
template <class T>
struct Exponential {
  static constexpr bool kFast = sizeof(T) == 2;
  static constexpr float kUnit = kFast ? kLog2E : 1.0f;  // e^x = of(kUnit x)
  TOROID_DEVICE static float of(float x) {
    if constexpr (kFast) {
      return exp2_fast(x);
    } else {
      return exp(x);
    }
  }
};
template <class T>
TOROID_DEVICE float capped_unit(float x) {
  if constexpr (sizeof(T) == 2) {
    return tanh_fast(x);
  } else {
    return tanh(x);
  }
}

// Keys of a block of queries.
struct Band {
  int low, high;                // [low, high): all that some query sees
  int whole_first, whole_last;  // every query sees all from here to here
  TOROID_DEVICE bool sees_all(int key, int keys) const {
    return key >= whole_first && key + keys - 1 <= whole_last;
  }
};

// Of queries [t, t + count) of sequence b; all threads of the team meet.
template <class Team>
TOROID_DEVICE Band band_of(Team& team, const AttentionShape& shape, int64_t b, int t, int count) {
  Own<Team, int> least, most;
  threads(team, [&](const auto& at) { least[at] = shape.S; });
  sweep<1>(team, count, [&](const auto& at) {
    const int first = shape.first_seen(b, t + at.i);
    if (first < least[at]) least[at] = first;
    if (first > most[at]) most[at] = first;
  });
  const int low = team.meet(least, [](int x, int y) { return x < y ? x : y; });
  const int whole_first = team.meet(most, [](int x, int y) { return x > y ? x : y; });
  return {low, shape.last_seen(t + count - 1) + 1, whole_first, shape.last_seen(t)};
}

inline AttentionShape shape_of(const Tensor& q, const Tensor& k, const Tensor& starts,
                               const op::AttentionSpec& spec, bool wide) {
  if (spec.head_dim > kWidestHead) {
    throw UserError("attention on the GPU has heads of up to " + std::to_string(kWidestHead) +
                    " elements, not " + std::to_string(spec.head_dim) + ": choose more and narrower heads");
  }
  require(spec.scale > 0, "scores of attention are scaled by a positive number");
  constexpr int64_t kLongest = int64_t{1} << 30;
  const int64_t T = q.rows() / spec.sequences, S = k.rows() / spec.sequences;
  require(S < kLongest, "a sequence has fewer than 2^30 keys");
  const bool capped = spec.softcap > 0;
  return {.B = spec.sequences,
          .T = static_cast<int>(T),
          .S = static_cast<int>(S),
          .N = static_cast<int>(spec.heads),
          .K = static_cast<int>(spec.kv_heads),
          .H = static_cast<int>(spec.head_dim),
          .window = static_cast<int>(std::min(spec.window, kLongest)),
          .starts = starts.as<int32_t>(),
          .before = static_cast<float>(capped ? spec.scale / spec.softcap : 1),
          .factor = static_cast<float>(capped ? spec.softcap : spec.scale),
          .scale = static_cast<float>(spec.scale),
          .capped = capped,
          .wide = wide};
}

// Whether each row of each head begins where 16 bytes can be read or written at once.
inline bool heads_are_aligned(std::initializer_list<const Tensor*> tensors, int64_t head_dim) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const Tensor* t) {
    const int64_t vector = 16 / bytes_of(t->type);
    return aligned({t->data()}) && t->row_stride % vector == 0 && head_dim % vector == 0;
  });
}

// f of the width of head that kernels are compiled for.
template <class F>
void with_head(int64_t head_dim, const F& f) {
  constexpr int kNarrow = 64, kMiddle = 128;
  if (head_dim <= kNarrow) return f(std::integral_constant<int, kNarrow>());
  if (head_dim <= kMiddle) return f(std::integral_constant<int, kMiddle>());
  f(std::integral_constant<int, kWidestHead>());
}

// A head's rows of a matrix [rows, heads H].
template <class T>
TOROID_DEVICE Rows<T> head_rows(const AttentionShape& shape, T* at, int64_t stride, int64_t row, int head,
                                int rows) {
  return {at + row * stride + static_cast<int64_t>(head) * shape.H, stride, rows, shape.H, shape.wide};
}

// Its columns [part width, (part + 1) width), as far as there are some.
template <class T>
TOROID_DEVICE Rows<T> part_of(const Rows<T>& all, int part, int width) {
  const int first = part * width, left = all.columns - first;
  return {all.at + first, all.stride, all.rows, left < width ? left : width, all.wide};
}

}  // namespace toroid::cuda
