// The queries' gradients: a team takes a block of queries of one head and goes over the keys that they see,
// as the forward pass does. dS = P (dO V^T - delta); dQ = scale dS K.
#include "core/device/cuda/attention_grad.h"
#include "core/device/cuda/launch.h"

namespace toroid::cuda {
namespace {

template <class T>
struct QueryArgs {
  AttentionGradient<T> of;
  T* dq;
  int64_t dq_stride;
  int blocks;  // of queries in a sequence
};

template <class T, int kHead>
struct QueryGradients {
  // With heads of 256 bf16: 100 KiB shared, so that two teams fit on a multiprocessor of sm_90.
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kAcross = 2;
  static constexpr int kQueries = sizeof(T) == 2 ? 64 : 32, kKeys = 32;
  using Queries = Tile<T, kQueries, kHead>;
  using Keys = Tile<T, kKeys, kHead>;
  using Scores = Tile<T, kQueries, kKeys>;
  using Out = Tile<float, kQueries, kHead>;  // over the queries, in the end
  static constexpr int kKeysAt = 2 * Queries::kBytes, kScoresAt = kKeysAt + 2 * Keys::kBytes,
                       kRowsAt = kScoresAt + Scores::kBytes;
  static constexpr int kSharedBytes = kRowsAt + 2 * kQueries * static_cast<int>(sizeof(float));
  static_assert(Out::kBytes <= kKeysAt);

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const QueryArgs<T>& a) const {
    using OfQuery = typename AttentionGradient<T>::OfQuery;
    const AttentionGradient<T>& of = a.of;
    const AttentionShape& shape = of.shape;
    const int64_t heads = shape.B * shape.N, head_of = team.index() % heads, b = head_of / shape.N;
    const int n = static_cast<int>(head_of % shape.N), g = shape.kv_head(n);
    const int t = (a.blocks - 1 - static_cast<int>(team.index() / heads)) * kQueries;
    const int count = shape.T - t < kQueries ? shape.T - t : kQueries;
    const Band band = band_of(team, shape, b, t, count);

    const auto queries = tile_at<Queries>(team, 0), d_outs = tile_at<Queries>(team, Queries::kBytes);
    const auto keys = tile_at<Keys>(team, kKeysAt), values = tile_at<Keys>(team, kKeysAt + Keys::kBytes);
    const auto scores = tile_at<Scores>(team, kScoresAt);
    auto* const of_rows = reinterpret_cast<OfQuery*>(team.shared() + kRowsAt);
    const auto fetch_keys = [&](const Keys& to, const T* from, int64_t stride, int key) {
      const int there = shape.S - key < kKeys ? shape.S - key : kKeys;
      fetch(team, to, head_rows(shape, from, stride, b * shape.S + key, g, there));
    };
    const int first_key = band.low / kKeys * kKeys, depth = (shape.H + 15) / 16 * 16;
    fetch(team, queries, head_rows(shape, of.q, of.q_stride, b * shape.T + t, n, count));
    fetch(team, d_outs, head_rows(shape, of.d_o, of.d_o_stride, b * shape.T + t, n, count));
    if (first_key < band.high) {
      fetch_keys(keys, of.k, of.k_stride, first_key);
      fetch_keys(values, of.v, of.v_stride, first_key);
    }
    each<1, 1>(team, kQueries, [&](const auto& at) {
      of_rows[at.i] = of.of_query(n, b, t + (at.i < count ? at.i : count - 1));
    });

    using Pairs = Sums<Team, kQueries, kKeys, kAcross>;
    Sums<Team, kQueries, kHead, kAcross> dq;
    for (int key = first_key; key < band.high; key += kKeys) {
      arrive(team);
      barrier(team);  // keys and values are there
      Pairs s, dp;
      multiply_turned(team, s, queries, keys, depth);
      multiply_turned(team, dp, d_outs, values, depth);
      const bool all = band.sees_all(key, kKeys);
      each_sum(
          team, s,
          [&](const auto&, int, int row, int column, float& score, float& d_score) {
            const int query = t + (row < count ? row : count - 1), here = key + column;
            const bool seen = all || (here >= shape.first_seen(b, query) && here <= shape.last_seen(query));
            of.turn(score, d_score, of_rows[row], seen);
          },
          dp);
      put(team, dp, scores);
      barrier(team);  // dS is there, and nobody reads these values any more
      const bool more = key + kKeys < band.high;
      if (more) fetch_keys(values, of.v, of.v_stride, key + kKeys);
      multiply(team, dq, scores, keys, shape.H);
      barrier(team);  // nor these keys
      if (more) fetch_keys(keys, of.k, of.k_stride, key + kKeys);
    }

    each_sum(team, dq, [&](const auto&, int, int, int, float& sum) { sum = sum * shape.scale; });
    arrive(team);
    barrier(team);
    const auto out = tile_at<Out>(team, 0);
    put(team, dq, out);
    barrier(team);
    write(team, out, head_rows(shape, a.dq, a.dq_stride, b * shape.T + t, n, count));
  }
};

}  // namespace

template <class T>
void query_gradients(cudaStream_t stream, const AttentionGradient<T>& gradient, T* dq, int64_t dq_stride) {
  const AttentionShape& shape = gradient.shape;
  with_head(shape.H, [&](auto head) {
    using Kernel = QueryGradients<T, decltype(head)::value>;
    const int blocks = (shape.T + Kernel::kQueries - 1) / Kernel::kQueries;
    launch<Kernel, Kernel::kThreads>(stream, blocks * shape.B * shape.N,
                                     QueryArgs<T>{gradient, dq, dq_stride, blocks});
  });
}
template void query_gradients(cudaStream_t, const AttentionGradient<float>&, float*, int64_t);
template void query_gradients(cudaStream_t, const AttentionGradient<Bf16>&, Bf16*, int64_t);

}  // namespace toroid::cuda
