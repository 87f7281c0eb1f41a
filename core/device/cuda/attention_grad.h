// The gradient of attention in passes: what queries have for themselves, then the keys' gradients, then the
// queries'. Scores are computed in each of the latter two, so that every sum stays with one team and is taken
// in one order.
#pragma once

#include <cuda_runtime_api.h>

#include "core/device/cuda/attention_band.h"

namespace toroid::cuda {

// Queries that the keys' pass takes at a time.
inline constexpr int kQueriesAtATime = 32;

template <class T>
struct AttentionGradient {
  AttentionShape shape;
  const T *q, *k, *v, *d_o;
  const float *lse, *delta;  // [N, B T]; delta: rowsum(dO O)
  int64_t q_stride, k_stride, v_stride, d_o_stride;

  // lse in Exponential's unit.
  struct OfQuery {
    float lse, delta;
  };
  TOROID_DEVICE OfQuery of_query(int n, int64_t b, int t) const {
    const int64_t at = n * shape.B * shape.T + b * shape.T + t;
    return {lse[at] * Exponential<T>::kUnit, delta[at]};
  }
  // A pair's probability p, and the gradient ds of its score before the scale, from q.k and dO.v.
  TOROID_DEVICE void turn(float& s, float& dp, const OfQuery& query, bool seen) const {
    const float unit = shape.capped ? capped_unit<T>(shape.before * s) : s;
    const float p =
        seen ? Exponential<T>::of(fma(unit, shape.factor * Exponential<T>::kUnit, -query.lse)) : 0.0f;
    float ds = p * (dp - query.delta);
    if (shape.capped) ds = ds * fma(-unit, unit, 1.0f);
    s = p;
    dp = ds;
  }
};

// Where the keys' pass writes: T, or fp32 where that is asked for. Parts of the query heads that share a
// key/value head are summed apart, `part_elements` behind each other.
struct KeyGradientsTo {
  void *dk, *dv;
  int64_t dk_stride, dv_stride, part_elements;
  bool f32;
  int parts;
};
// The first keys that the queries of a block see: the least and the most of them.
struct FirstKeys {
  int least, most;
};

// dq; and dk and dv, with the first keys of each sequence's blocks of kQueriesAtATime queries.
template <class T>
void query_gradients(cudaStream_t stream, const AttentionGradient<T>& gradient, T* dq, int64_t dq_stride);
template <class T>
void key_gradients(cudaStream_t stream, const AttentionGradient<T>& gradient, const FirstKeys* first_keys,
                   const KeyGradientsTo& to);

}  // namespace toroid::cuda
