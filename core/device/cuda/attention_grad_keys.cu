// The keys' gradients: a team takes a block of keys of one key/value head and goes over the queries that see
// them, head after head. Scores are computed turned, keys x queries. P = exp(S - lse);  dS = P (V dO^T -
// delta); dV = P dO;  dK = scale dS Q.
#include "core/device/cuda/attention_grad.h"
#include "core/device/cuda/launch.h"

namespace toroid::cuda {
namespace {

template <class T>
struct KeyArgs {
  AttentionGradient<T> of;
  const FirstKeys* first_keys;  // [B, blocks]
  KeyGradientsTo to;
  int blocks;  // of queries in a sequence
};

template <class T, int kHead>
struct KeyGradients {
  static constexpr bool kBf16 = sizeof(T) == 2;
  static constexpr int kWarps = 8, kThreads = 32 * kWarps;
  static constexpr int kKeys = kBf16 ? 64 : 32, kQueries = kQueriesAtATime;
  // Pairs of queries and keys lie in small blocks; in bf16 the gradients in tall ones, for which less is read
  // of their right operand.
  static constexpr int kPairsAcross = kBf16 ? 2 : 4, kAcross = 4;
  // With two stages the next queries arrive while these are computed with; the widest fp32 has no room for
  // it.
  static constexpr int kStages = !kBf16 && kHead == kWidestHead ? 1 : 2;
  using Keys = Tile<T, kKeys, kHead>;
  using Queries = Tile<T, kQueries, kHead>;
  using PairTile = Tile<T, kKeys, kQueries>;
  using Out = Tile<float, kKeys, kHead>;  // over keys and values, in the end
  using OfQuery = typename AttentionGradient<T>::OfQuery;
  static constexpr int kStageAt = 2 * Keys::kBytes, kRowsAt = 2 * Queries::kBytes;
  static constexpr int kStageBytes = kRowsAt + kQueries * static_cast<int>(sizeof(OfQuery));
  static constexpr int kPairsAt = kStageAt + kStages * kStageBytes;
  static constexpr int kSharedBytes = kPairsAt + 2 * PairTile::kBytes;
  static_assert(Out::kBytes <= kStageAt && kStageBytes % 128 == 0);

  // A block of queries of one head.
  struct Step {
    int n, block;
  };

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const KeyArgs<T>& a) const {
    const AttentionGradient<T>& of = a.of;
    const AttentionShape& shape = of.shape;
    // The first keys are seen by the most queries and begin first.
    const int64_t items = shape.B * shape.K * a.to.parts, item = team.index() % items;
    const int part = static_cast<int>(item % a.to.parts), g = static_cast<int>(item / a.to.parts % shape.K);
    const int64_t b = item / a.to.parts / shape.K;
    const int key = static_cast<int>(team.index() / items) * kKeys;
    const int count = shape.S - key < kKeys ? shape.S - key : kKeys;
    const int group = shape.N / shape.K / a.to.parts;  // heads
    const int first_head = g * (shape.N / shape.K) + part * group, end_head = first_head + group;
    // Queries whose last key is not before these keys, and within the window of the last of them.
    const int first_query = key - (shape.S - shape.T),
              first_block = first_query > 0 ? first_query / kQueries : 0;
    int end_block = a.blocks;
    if (shape.window > 0) {
      const int64_t end = int64_t{key} + count - 1 + shape.window - (shape.S - shape.T);
      if (end < shape.T) end_block = end <= 0 ? 0 : static_cast<int>((end + kQueries - 1) / kQueries);
    }
    // From a step on, the first that has a query which sees a key: documents may be in between.
    const FirstKeys* const firsts = a.first_keys + b * a.blocks;
    const auto seek = [&](Step step) {
      while (step.n < end_head) {
        for (; step.block < end_block; ++step.block) {
          if (firsts[step.block].least < key + count) return step;
        }
        ++step.n;
        step.block = first_block;
      }
      return step;
    };

    const auto keys = tile_at<Keys>(team, 0), values = tile_at<Keys>(team, Keys::kBytes);
    const auto p_tile = tile_at<PairTile>(team, kPairsAt),
               ds_tile = tile_at<PairTile>(team, kPairsAt + PairTile::kBytes);
    const auto stage_at = [&](int stage) { return kStageAt + stage * kStageBytes; };
    const auto of_rows = [&](int stage) {
      return reinterpret_cast<OfQuery*>(team.shared() + stage_at(stage) + kRowsAt);
    };
    const auto fetch_queries = [&](const Step& step, int stage) {
      const int t = step.block * kQueries, there = shape.T - t < kQueries ? shape.T - t : kQueries;
      const int64_t row = b * shape.T + t;
      const int at_stage = stage_at(stage);
      fetch(team, tile_at<Queries>(team, at_stage), head_rows(shape, of.q, of.q_stride, row, step.n, there));
      fetch(team, tile_at<Queries>(team, at_stage + Queries::kBytes),
            head_rows(shape, of.d_o, of.d_o_stride, row, step.n, there));
      each<1, 1>(team, kQueries, [&](const auto& at) {
        of_rows(stage)[at.i] = of.of_query(step.n, b, t + (at.i < there ? at.i : there - 1));
      });
    };

    const int depth = (shape.H + 15) / 16 * 16;
    fetch(team, keys, head_rows(shape, of.k, of.k_stride, b * shape.S + key, g, count));
    fetch(team, values, head_rows(shape, of.v, of.v_stride, b * shape.S + key, g, count));
    Step step = seek({first_head, first_block});
    if (step.n < end_head) fetch_queries(step, 0);

    using Pairs = Sums<Team, kKeys, kQueries, kPairsAcross>;
    using Gradients = Sums<Team, kKeys, kHead, kAcross>;
    Gradients dk, dv;
    int stage = 0;
    while (step.n < end_head) {
      arrive(team);
      barrier(team);  // these queries are there, and nobody reads the pairs before any more
      const Step next = seek({step.n, step.block + 1});
      const bool more = next.n < end_head;
      if (kStages > 1 && more) fetch_queries(next, 1 - stage);
      const auto queries = tile_at<Queries>(team, stage_at(stage)),
                 d_outs = tile_at<Queries>(team, stage_at(stage) + Queries::kBytes);
      Pairs s, dp;
      multiply_turned(team, s, keys, queries, depth);
      multiply_turned(team, dp, values, d_outs, depth);
      const int t = step.block * kQueries;
      const bool all =
          t + kQueries <= shape.T && firsts[step.block].most <= key && shape.last_seen(t) >= key + kKeys - 1;
      const OfQuery* const rows = of_rows(stage);
      each_sum(
          team, s,
          [&](const auto&, int, int row, int column, float& score, float& d_score) {
            const int query = t + column, here = key + row;
            const bool seen = all || (query < shape.T && here <= shape.last_seen(query) &&
                                      here >= shape.first_seen(b, query));
            of.turn(score, d_score, rows[column], seen);
          },
          dp);
      put(team, s, p_tile);
      put(team, dp, ds_tile);
      barrier(team);  // P and dS are there
      multiply(team, dv, p_tile, d_outs, shape.H);
      multiply(team, dk, ds_tile, queries, shape.H);
      if constexpr (kStages == 1) {
        barrier(team);  // nobody reads these queries any more
        if (more) fetch_queries(next, 0);
      } else {
        stage = 1 - stage;
      }
      step = next;
    }

    each_sum(team, dk, [&](const auto&, int, int, int, float& sum) { sum = sum * shape.scale; });
    arrive(team);
    barrier(team);
    const int64_t behind = part * a.to.part_elements, row = b * shape.S + key;
    write_gradient(team, shape, dk, a.to, a.to.dk, behind, a.to.dk_stride, row, g, count);
    barrier(team);
    write_gradient(team, shape, dv, a.to, a.to.dv, behind, a.to.dv_stride, row, g, count);
  }

  template <class Team, class Gradients>
  TOROID_DEVICE static void write_gradient(Team& team, const AttentionShape& shape, Gradients& gradient,
                                           const KeyGradientsTo& to, void* first, int64_t behind,
                                           int64_t stride, int64_t row, int g, int count) {
    const auto out = tile_at<Out>(team, 0);
    put(team, gradient, out);
    barrier(team);
    to.f32 ? write(team, out, head_rows(shape, static_cast<float*>(first) + behind, stride, row, g, count))
           : write(team, out, head_rows(shape, static_cast<T*>(first) + behind, stride, row, g, count));
  }
};

}  // namespace

template <class T>
void key_gradients(cudaStream_t stream, const AttentionGradient<T>& gradient, const FirstKeys* first_keys,
                   const KeyGradientsTo& to) {
  const AttentionShape& shape = gradient.shape;
  with_head(shape.H, [&](auto head) {
    using Kernel = KeyGradients<T, decltype(head)::value>;
    const int blocks = (shape.T + Kernel::kQueries - 1) / Kernel::kQueries,
              key_blocks = (shape.S + Kernel::kKeys - 1) / Kernel::kKeys;
    launch<Kernel, Kernel::kThreads>(stream, key_blocks * shape.B * shape.K * to.parts,
                                     KeyArgs<T>{gradient, first_keys, to, blocks});
  });
}
template void key_gradients(cudaStream_t, const AttentionGradient<float>&, const FirstKeys*,
                            const KeyGradientsTo&);
template void key_gradients(cudaStream_t, const AttentionGradient<Bf16>&, const FirstKeys*,
                            const KeyGradientsTo&);

}  // namespace toroid::cuda
