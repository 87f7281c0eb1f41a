// Attention's forward pass by blocks (Dao et al. 2022): a team takes a block of queries of one head, whose
// outputs stay in registers, and goes over the keys that they see. While a block's scores are computed its
// values arrive, and while those are multiplied the next keys do. B sequences of T queries and S keys, N
// query heads, K key/value heads, H head_dim.
#include "core/device/cuda/attention_band.h"
#include "core/device/cuda/attention_kernels.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/types.h"

namespace toroid::cuda {
namespace {

template <class T>
struct ForwardArgs {
  AttentionShape shape;
  const T *q, *k, *v;
  T* o;
  float* lse;  // null: not wanted
  int64_t q_stride, k_stride, v_stride, o_stride;
  int blocks;  // of queries in a sequence
};

template <class T, int kHead>
struct AttentionForward {
  // As many keys as registers allow, of which the outputs of heads of 256 take 128 a thread. Shared are then
  // 64 KiB, and two teams fit on a multiprocessor: one computes while the other waits.
  static constexpr bool kBf16 = sizeof(T) == 2, kWidest = kHead == kWidestHead;
  static constexpr int kWarps = kBf16 ? 4 : 2, kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps, kKeys = kBf16 && !kWidest ? 64 : 32;
  // In fp32 a team has half of the outputs of a wide head: scores are computed twice, registers suffice.
  static constexpr int kParts = !kBf16 && kWidest ? 2 : 1, kOut = kHead / kParts;
  using Queries = Tile<T, kQueries, kHead>;
  using Keys = Tile<T, kKeys, kHead>;
  using Values = Tile<T, kKeys, kOut>;
  using Out = Tile<float, kQueries, kOut>;  // over all of these, in the end
  static constexpr int kSharedBytes = Queries::kBytes + Keys::kBytes + Values::kBytes;
  static_assert(Out::kBytes <= kSharedBytes);

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const ForwardArgs<T>& a) const {
    const AttentionShape& shape = a.shape;
    // The last queries see the most keys and begin first. Heads that share keys run side by side.
    const int64_t heads = shape.B * shape.N, head_of = team.index() % heads, b = head_of / shape.N;
    const int n = static_cast<int>(head_of % shape.N), g = shape.kv_head(n);
    const int block = static_cast<int>(team.index() / heads), part = block % kParts;
    const int t = (a.blocks - 1 - block / kParts) * kQueries;
    const int count = shape.T - t < kQueries ? shape.T - t : kQueries;
    const Band band = band_of(team, shape, b, t, count);

    const auto queries = tile_at<Queries>(team, 0);
    const auto keys = tile_at<Keys>(team, Queries::kBytes);
    const auto values = tile_at<Values>(team, Queries::kBytes + Keys::kBytes);
    const auto keys_at = [&](int key) { return shape.S - key < kKeys ? shape.S - key : kKeys; };
    const auto fetch_keys = [&](int key) {
      fetch(team, keys, head_rows(shape, a.k, a.k_stride, b * shape.S + key, g, keys_at(key)));
    };
    const int first_key = band.low / kKeys * kKeys, depth = (shape.H + 15) / 16 * 16;
    fetch(team, queries, head_rows(shape, a.q, a.q_stride, b * shape.T + t, n, count));
    if (first_key < band.high) fetch_keys(first_key);

    using Scores = Sums<Team, kQueries, kKeys>;
    using Outputs = Sums<Team, kQueries, kOut>;
    Outputs out;
    OfRows<Team, float> top, total;  // the largest unit, the sum of exponentials
    each_row<Scores>(team, [&](const auto& at, int half, int) { top[at].of[half] = as_float(0xff800000u); });
    const float factor = shape.factor * Exponential<T>::kUnit;

    for (int key = first_key; key < band.high; key += kKeys) {
      arrive(team);
      barrier(team);  // these keys are there, and nobody reads the values of the block before any more
      fetch(team, values,
            part_of(head_rows(shape, a.v, a.v_stride, b * shape.S + key, g, keys_at(key)), part, kOut));
      Scores scores;
      multiply_turned(team, scores, queries, keys, depth);
      if (shape.capped) {
        each_sum(team, scores,
                 [&](const auto&, int, int, int, float& s) { s = capped_unit<T>(shape.before * s); });
      }
      if (!band.sees_all(key, kKeys)) {
        OfRows<Team, int> first, last;
        each_row<Scores>(team, [&](const auto& at, int half, int row) {
          const int query = t + (row < count ? row : count - 1);
          first[at].of[half] = shape.first_seen(b, query);
          last[at].of[half] = shape.last_seen(query);
        });
        each_sum(team, scores, [&](const auto& at, int half, int, int column, float& s) {
          const int here = key + column;
          if (here < first[at].of[half] || here > last[at].of[half]) s = as_float(0xff800000u);
        });
      }
      auto most = largest_of_rows(team, scores);
      OfRows<Team, float> shrink, base;
      each_row<Scores>(team, [&](const auto& at, int half, int) {
        const float before = top[at].of[half], now = before < most[at].of[half] ? most[at].of[half] : before;
        // A row that has seen nothing yet has no finite number to take off.
        const float off = now < -3.0e38f ? 0.0f : now * factor;
        shrink[at].of[half] = now == before ? 1.0f : Exponential<T>::of(fma(before, factor, -off));
        top[at].of[half] = now;
        base[at].of[half] = off;
      });
      each_sum(team, scores, [&](const auto& at, int half, int, int, float& s) {
        s = Exponential<T>::of(fma(s, factor, -base[at].of[half]));
      });
      auto more = sum_of_rows(team, scores);
      each_row<Scores>(team, [&](const auto& at, int half, int) {
        total[at].of[half] = fma(total[at].of[half], shrink[at].of[half], more[at].of[half]);
      });
      // Most blocks have no row's largest.
      threads(team, [&](const auto& at) {
        const float upper = shrink[at].of[0], lower = shrink[at].of[1];
        if (upper == 1.0f && lower == 1.0f) return;
        TOROID_UNROLL
        for (auto& sum : out.of[at].v) {
          sum[0] = sum[0] * upper, sum[1] = sum[1] * upper;
          sum[2] = sum[2] * lower, sum[3] = sum[3] * lower;
        }
      });
      arrive(team);
      barrier(team);  // the values are there, and nobody reads these keys any more
      if (key + kKeys < band.high) fetch_keys(key + kKeys);
      multiply(team, out, scores, values, shape.H - part * kOut);
    }

    OfRows<Team, float> share;
    each_row<Scores>(team, [&](const auto& at, int half, int) {
      const float sum = total[at].of[half];
      share[at].of[half] = sum == 0 ? 0.0f : inverse(sum);
    });
    each_sum(team, out, [&](const auto& at, int half, int, int, float& s) { s = s * share[at].of[half]; });
    arrive(team);
    barrier(team);
    const auto rows = tile_at<Out>(team, 0);
    put(team, out, rows);
    barrier(team);
    write(team, rows, part_of(head_rows(shape, a.o, a.o_stride, b * shape.T + t, n, count), part, kOut));
    if (a.lse == nullptr || part > 0) return;
    each_row<Scores>(team, [&](const auto& at, int half, int row) {
      if (at.i % 4 != 0 || row >= count) return;
      const float sum = total[at].of[half];
      const float ln = sum > 0 ? static_cast<float>(log(static_cast<double>(sum))) : sum;
      a.lse[static_cast<int64_t>(n) * shape.B * shape.T + b * shape.T + t + row] =
          sum == 0 ? as_float(0xff800000u) : fma(top[at].of[half], shape.factor, ln);
    });
  }
};

}  // namespace

void own_attention(const Call& call, const LaunchContext& context) {
  const Tensor &q = call[0], &k = call[1], &v = call[2], &o = call[4], &lse = call[5];
  const auto& spec = call.get<op::AttentionSpec>();
  if (q.rows() == 0) return;
  with_type(call, q.type, [&]<class T>(Type<T>) {
    with_head(spec.head_dim, [&](auto head) {
      using Kernel = AttentionForward<T, decltype(head)::value>;
      const AttentionShape shape =
          shape_of(q, k, call[3], spec, heads_are_aligned({&q, &k, &v, &o}, spec.head_dim));
      const int blocks = (shape.T + Kernel::kQueries - 1) / Kernel::kQueries;
      launch<Kernel, Kernel::kThreads>(
          stream_of(context), blocks * Kernel::kParts * shape.B * shape.N,
          ForwardArgs<T>{shape, q.as<T>(), k.as<T>(), v.as<T>(), o.as<T>(), pointer<float>(lse), q.row_stride,
                         k.row_stride, v.row_stride, o.row_stride, blocks});
    });
  });
}

}  // namespace toroid::cuda
