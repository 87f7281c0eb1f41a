// The gradient of attention: its order, its workspace, and the small kernels around the two passes. B
// sequences of T queries and S keys, N query heads, K key/value heads, H head_dim.
#include "core/device/cuda/attention_grad.h"
#include "core/device/cuda/attention_kernels.h"
#include "core/device/cuda/elements.h"
#include "core/device/cuda/tree.h"
#include "core/device/cuda/types.h"

namespace toroid::cuda {
namespace {

constexpr int kWarp = 32;

template <class T>
struct DeltaArgs {
  const T *d_o, *o;
  int64_t d_o_stride, o_stride, rows;  // rows: B T
  int N, H;
  float* delta;  // [N, B T]
};

// rowsum(dO O): a warp takes a row of a head.
template <class T, int kWidth>
struct Delta {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const DeltaArgs<T>& a) const {
    const int64_t row = team.index() / a.N, n = team.index() % a.N;
    const T *const d_o = a.d_o + row * a.d_o_stride + n * a.H, *const o = a.o + row * a.o_stride + n * a.H;
    Own<Team, float> total;
    sweep<kWidth>(team, a.H, [&](const auto& at) {
      const auto x = load<kWidth>(d_o + at.i), y = load<kWidth>(o + at.i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) total[at] = fma(x.v[j], y.v[j], total[at]);
    });
    const float found = sum(team, total);
    once(team, [&](const auto&) { a.delta[n * a.rows + row] = found; });
  }
};

struct FirstKeysArgs {
  AttentionShape shape;
  int blocks;
  FirstKeys* to;  // [B, blocks]
};
struct FindFirstKeys {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const FirstKeysArgs& a) const {
    const int64_t b = team.index() / a.blocks;
    const int t = static_cast<int>(team.index() % a.blocks) * kQueriesAtATime, left = a.shape.T - t;
    const Band band = band_of(team, a.shape, b, t, left < kQueriesAtATime ? left : kQueriesAtATime);
    once(team, [&](const auto&) { a.to[team.index()] = {band.low, band.whole_first}; });
  }
};

// Sums of parts, as the call wants them.
template <class T>
struct Settle {
  struct Args {
    const float* from;
    T* to;
    int64_t from_stride, to_stride;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    store<kWidth>(a.to + row * a.to_stride + i, load<kWidth>(a.from + row * a.from_stride + i));
  }
};

// Which parts the query heads of a key/value head are summed in, and where all is put meanwhile.
class Plan {
 public:
  explicit Plan(const Call& call) {
    const Tensor &q = call[1], &k = call[2];
    const auto& spec = call.get<op::AttentionSpec>();
    const int64_t heads = spec.heads / spec.kv_heads, T = q.rows() / spec.sequences;
    keys_ = k.rows();
    columns_ = k.columns();
    if (call.tiles.deterministic) {
      // A part for each slice of heads, and a tree over them, as they are added where heads are dealt to
      // ranks.
      const int64_t slices = std::max<int64_t>(1, call.tiles.slices / spec.kv_heads);
      parts_ = heads % slices == 0 ? static_cast<int>(slices) : 1;
    } else {
      // Enough teams for the multiprocessors of a large GPU, twice, by the shape alone.
      constexpr int64_t kEnough = 264, kKeysOfTeam = 64;
      const int64_t teams = (keys_ + kKeysOfTeam - 1) / kKeysOfTeam * spec.kv_heads;
      while (teams * parts_ < kEnough && heads % (2 * int64_t{parts_}) == 0) parts_ *= 2;
    }
    blocks_ = static_cast<int>((T + kQueriesAtATime - 1) / kQueriesAtATime);
    delta_ = take(spec.heads * q.rows() * bytes_of(DType::f32));
    firsts_ = take(spec.sequences * blocks_ * static_cast<int64_t>(sizeof(FirstKeys)));
    if (parts_ > 1) {
      dk_ = take(parts_ * part_elements() * bytes_of(DType::f32));
      dv_ = take(parts_ * part_elements() * bytes_of(DType::f32));
    }
  }

  int64_t workspace_bytes() const { return bytes_; }

  void run(const Call& call, const LaunchContext& context) const {
    const Tensor &d_o = call[0], &q = call[1], &k = call[2], &v = call[3], &o = call[4], &dq = call[7],
                 &dk = call[8], &dv = call[9];
    const cudaStream_t stream = stream_of(context);
    const auto& spec = call.get<op::AttentionSpec>();
    auto* const delta = reinterpret_cast<float*>(context.workspace + delta_);
    auto* const firsts = reinterpret_cast<FirstKeys*>(context.workspace + firsts_);
    const AttentionShape shape =
        shape_of(q, k, call[6], spec, heads_are_aligned({&d_o, &q, &k, &v, &dq, &dk, &dv}, spec.head_dim));
    with_type(call, q.type, [&]<class T>(Type<T>) {
      const DeltaArgs<T> of_rows{d_o.as<T>(), o.as<T>(), d_o.row_stride, o.row_stride,
                                 q.rows(),    shape.N,   shape.H,        delta};
      heads_are_aligned({&d_o, &o}, spec.head_dim)
          ? launch<Delta<T, kVector<T>>, kWarp>(stream, q.rows() * shape.N, of_rows)
          : launch<Delta<T, 1>, kWarp>(stream, q.rows() * shape.N, of_rows);
      launch<FindFirstKeys, kWarp>(stream, shape.B * blocks_, FirstKeysArgs{shape, blocks_, firsts});

      const AttentionGradient<T> gradient{shape,        q.as<T>(),           k.as<T>(),     v.as<T>(),
                                          d_o.as<T>(),  call[5].as<float>(), delta,         q.row_stride,
                                          k.row_stride, v.row_stride,        d_o.row_stride};
      if (parts_ == 1) {
        key_gradients(stream, gradient, firsts,
                      {dk.data(), dv.data(), dk.row_stride, dv.row_stride, 0, dk.type == DType::f32, 1});
      } else {
        auto* const dk_parts = reinterpret_cast<float*>(context.workspace + dk_);
        auto* const dv_parts = reinterpret_cast<float*>(context.workspace + dv_);
        key_gradients(stream, gradient, firsts,
                      {dk_parts, dv_parts, columns_, columns_, part_elements(), true, parts_});
        settle(call, stream, dk_parts, dk);
        settle(call, stream, dv_parts, dv);
      }
      query_gradients(stream, gradient, dq.as<T>(), dq.row_stride);
    });
  }

 private:
  int64_t part_elements() const { return keys_ * columns_; }
  int64_t take(int64_t bytes) {
    constexpr int64_t kAligned = 512;
    const int64_t at = bytes_;
    bytes_ += (bytes + kAligned - 1) / kAligned * kAligned;
    return at;
  }

  void settle(const Call& call, cudaStream_t stream, float* parts, const Tensor& to) const {
    require(part_elements() < int64_t{1} << 31, "attention adds parts of fewer than 2^31 elements");
    add_tree(stream, parts, parts_, part_elements(), static_cast<int>(part_elements()), nullptr);
    with_type(call, to.type, [&]<class T>(Type<T>) {
      const bool wide = to.row_stride % kVector<T> == 0 && columns_ % kVector<float> == 0;
      launch_rows<Settle<T>>(stream, {parts, to.as<T>(), columns_, to.row_stride}, keys_, columns_,
                             wide && aligned({to.data()}));
    });
  }

  int64_t keys_ = 0, columns_ = 0, bytes_ = 0, delta_ = 0, firsts_ = 0, dk_ = 0, dv_ = 0;
  int parts_ = 1, blocks_ = 0;
};

}  // namespace

void own_attention_grad(const Call& call, const LaunchContext& context) {
  if (call[1].rows() > 0) Plan(call).run(call, context);
}

int64_t own_attention_grad_workspace(const Call& call, const LaunchContext&) {
  return call[1].rows() == 0 ? 0 : Plan(call).workspace_bytes();
}

}  // namespace toroid::cuda
