// Rotary embedding on split halves and its table; with the norm of queries and keys where the model has it. M
// tokens, N query heads, K key/value heads, H head_dim. A vector of a head's first half is turned with the
// one that lies H/2 behind it, by one thread.
#include <algorithm>
#include <cmath>

#include "core/device/cuda/elements.h"
#include "core/device/cuda/rows.h"
#include "core/device/cuda/tree.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/rope.h"

namespace toroid::cuda {
namespace {

// Frequencies are the host's, which computes them as the reference does: half an ulp of one would be seen in
// the angle of a far position. They are passed in runs.
struct Table {
  static constexpr int kRun = 256;
  struct Args {
    const int32_t* positions;
    float* table;
    int64_t H, first;
    float frequencies[kRun];
  };
  static constexpr int kWide = 1;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    const float angle = static_cast<float>(a.positions[row]) * a.frequencies[i];
    const SineCosine turned = sine_cosine(static_cast<double>(angle));
    float* const to = a.table + row * a.H + a.first + i;
    to[0] = static_cast<float>(turned.cosine);
    to[a.H / 2] = static_cast<float>(turned.sine);
  }
};

template <int kWidth>
struct Halves {
  Floats<kWidth> a, b;
};

template <int kWidth, class T>
TOROID_DEVICE Halves<kWidth> load_halves(const T* from, int64_t half) {
  return {load<kWidth>(from), load<kWidth>(from + half)};
}
template <int kWidth, class T>
TOROID_DEVICE void store_halves(T* to, int64_t half, const Halves<kWidth>& x) {
  store<kWidth>(to, x.a);
  store<kWidth>(to + half, x.b);
}

// (a cos - b sin, b cos + a sin), or the inverse of that.
template <bool kBack, int kWidth>
TOROID_DEVICE Halves<kWidth> turn(const Halves<kWidth>& x, const float* cosines, int64_t half) {
  const Halves<kWidth> at = load_halves<kWidth>(cosines, half);
  Halves<kWidth> out;
  TOROID_UNROLL
  for (int j = 0; j < kWidth; ++j) {
    const float c = at.a.v[j], s = kBack ? -at.b.v[j] : at.b.v[j], a = x.a.v[j], b = x.b.v[j];
    out.a.v[j] = fma(-b, s, a * c);
    out.b.v[j] = fma(a, s, b * c);
  }
  return out;
}

// Element i of a token counts the first halves of its heads; those that are not turned are copied.
template <class T, bool kBack>
struct Turn {
  struct Args {
    const T* in;
    T* out;
    const float* table;
    int64_t width;
    uint32_t half, turned;  // of all heads, the first `turned`
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    const auto place = static_cast<uint32_t>(i);
    const uint32_t head = place / a.half, inside = place % a.half;
    const int64_t from = row * a.width + 2 * static_cast<int64_t>(head) * a.half + inside;
    Halves<kWidth> x = load_halves<kWidth>(a.in + from, a.half);
    if (head < a.turned) x = turn<kBack>(x, a.table + row * 2 * a.half + inside, a.half);
    store_halves<kWidth>(a.out + from, a.half, x);
  }
};

struct NormedArgs {
  int64_t M = 0, width = 0;
  int N = 0, K = 0, H = 0;
  float eps = 0;
  bool q_bf16 = false, k_bf16 = false;
  const void *in = nullptr, *wq = nullptr, *wk = nullptr;
  void* out = nullptr;
  const float* table = nullptr;
  float* rstd = nullptr;  // [M, N + K]
  // Backward: `in` is d_out, `out` is d_qkv.
  const void* qkv = nullptr;
  int token_block = 0, q_slices = 0, k_slices = 0, copies = 0;
  float* blocks = nullptr;  // [blocks, (q_slices + k_slices) H]
};

template <int kWidth>
TOROID_DEVICE Halves<kWidth> gain_halves(const NormedArgs& a, bool query, int64_t i) {
  const void* const w = query ? a.wq : a.wk;
  const bool bf16 = query ? a.q_bf16 : a.k_bf16;
  return {load_gain<kWidth>(w, bf16, i), load_gain<kWidth>(w, bf16, i + a.H / 2)};
}

constexpr int kHeadThreads = 32;

// A team takes a head of a token, or copies it.
template <class T, int kWidth>
struct NormedTurn {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const NormedArgs& a) const {
    const int heads = a.N + 2 * a.K, half = a.H / 2;
    const int64_t m = team.index() / heads;
    const int head = static_cast<int>(team.index() % heads);
    const int64_t from = m * a.width + static_cast<int64_t>(head) * a.H;
    const T* const in = static_cast<const T*>(a.in) + from;
    T* const out = static_cast<T*>(a.out) + from;
    if (head >= a.N + a.K) {
      sweep<kWidth>(team, half, [&](const auto& at) {
        store_halves<kWidth>(out + at.i, half, load_halves<kWidth>(in + at.i, half));
      });
      return;
    }
    Own<Team, float> squares;
    sweep<kWidth>(team, half, [&](const auto& at) {
      const Halves<kWidth> x = load_halves<kWidth>(in + at.i, half);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        squares[at] = fma(x.b.v[j], x.b.v[j], fma(x.a.v[j], x.a.v[j], squares[at]));
      }
    });
    const float rstd = inverse(root(sum(team, squares) / static_cast<float>(a.H) + a.eps));
    once(team, [&](const auto&) { a.rstd[m * (a.N + a.K) + head] = rstd; });
    sweep<kWidth>(team, half, [&](const auto& at) {
      Halves<kWidth> x = load_halves<kWidth>(in + at.i, half);
      const Halves<kWidth> gain = gain_halves<kWidth>(a, head < a.N, at.i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        x.a.v[j] = x.a.v[j] * rstd * gain.a.v[j];
        x.b.v[j] = x.b.v[j] * rstd * gain.b.v[j];
      }
      // Rounded to the compute type before it is turned.
      x.a = widen<T, kWidth>(narrow<T, kWidth>(x.a));
      x.b = widen<T, kWidth>(narrow<T, kWidth>(x.b));
      store_halves<kWidth>(out + at.i, half, turn<false>(x, a.table + m * a.H + at.i, half));
    });
  }
};

// The inverse rotation and the norm's gradient. A team takes a slice of the queries' or of the keys' heads,
// or copies a head, in a block of tokens; the weight's gradient of the slice stays in registers.
template <class T, int kSlots, int kWidth>
struct NormedTurnGrad {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const NormedArgs& a) const {
    const int slices = a.q_slices + a.k_slices, half = a.H / 2;
    const int64_t block = team.index() / (slices + a.copies);
    const int piece = static_cast<int>(team.index() % (slices + a.copies));
    const int64_t first = block * a.token_block,
                  last = first + a.token_block < a.M ? first + a.token_block : a.M;
    if (piece >= slices) {
      const int64_t head = a.N + a.K + piece - slices;
      for (int64_t m = first; m < last; ++m) {
        const int64_t from = m * a.width + head * a.H;
        sweep<kWidth>(team, half, [&](const auto& at) {
          store_halves<kWidth>(static_cast<T*>(a.out) + from + at.i, half,
                               load_halves<kWidth>(static_cast<const T*>(a.in) + from + at.i, half));
        });
      }
      return;
    }
    const bool query = piece < a.q_slices;
    const int heads = query ? a.N / a.q_slices : a.K / a.k_slices;
    const int first_head = query ? piece * heads : a.N + (piece - a.q_slices) * heads;
    float* const dw_row = a.blocks + (block * slices + piece) * a.H;
    Own<Team, Kept<Halves<kWidth>, kSlots>> dw;
    if constexpr (kSlots == 0) {
      sweep<kWidth>(team, half, [&](const auto& at) {
        const auto zero = make<kWidth>([](int) { return 0.0f; });
        store_halves<kWidth>(dw_row + at.i, half, {zero, zero});
      });
    }
    for (int64_t m = first; m < last; ++m) {
      for (int head = first_head; head < first_head + heads; ++head) {
        const int64_t from = m * a.width + static_cast<int64_t>(head) * a.H;
        const T *const d_out = static_cast<const T*>(a.in) + from, *const x_row =
                                                                       static_cast<const T*>(a.qkv) + from;
        const float* const cosines = a.table + m * a.H;
        const float rstd = a.rstd[m * (a.N + a.K) + head];
        struct Row {
          Halves<kWidth> dy, x, gain;
        };
        const auto row_at = [&](const auto& at) {
          return Row{turn<true>(load_halves<kWidth>(d_out + at.i, half), cosines + at.i, half),
                     load_halves<kWidth>(x_row + at.i, half), gain_halves<kWidth>(a, query, at.i)};
        };
        Own<Team, Kept<Row, kSlots>> rows;
        Own<Team, float> dots;
        walk<kSlots, kWidth>(team, half, [&](const auto& at) {
          const Row row = row_at(at);
          TOROID_UNROLL
          for (int j = 0; j < kWidth; ++j) {
            dots[at] = fma(row.dy.a.v[j] * row.gain.a.v[j], row.x.a.v[j], dots[at]);
            dots[at] = fma(row.dy.b.v[j] * row.gain.b.v[j], row.x.b.v[j], dots[at]);
          }
          if constexpr (kSlots > 0) rows[at].of[at.slot] = row;
        });
        const float along = rstd * rstd * (sum(team, dots) / static_cast<float>(a.H));
        walk<kSlots, kWidth>(team, half, [&](const auto& at) {
          Row row = rows[at].of[at.slot];
          Halves<kWidth> sums = dw[at].of[at.slot];
          if constexpr (kSlots == 0) {
            row = row_at(at);
            sums = load_halves<kWidth>(dw_row + at.i, half);
          }
          const auto grad = [&](float dy, float x, float w, float& total) {
            const float xr = x * rstd;
            total = fma(dy, xr, total);
            return fma(-xr, along, dy * w * rstd);
          };
          Halves<kWidth> dx;
          TOROID_UNROLL
          for (int j = 0; j < kWidth; ++j) {
            dx.a.v[j] = grad(row.dy.a.v[j], row.x.a.v[j], row.gain.a.v[j], sums.a.v[j]);
            dx.b.v[j] = grad(row.dy.b.v[j], row.x.b.v[j], row.gain.b.v[j], sums.b.v[j]);
          }
          store_halves<kWidth>(static_cast<T*>(a.out) + from + at.i, half, dx);
          if constexpr (kSlots == 0) {
            store_halves<kWidth>(dw_row + at.i, half, sums);
          } else {
            dw[at].of[at.slot] = sums;
          }
        });
      }
    }
    if constexpr (kSlots > 0) {
      walk<kSlots, kWidth>(
          team, half, [&](const auto& at) { store_halves<kWidth>(dw_row + at.i, half, dw[at].of[at.slot]); });
    }
  }
};

void rope_table(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::RopeTableSpec>();
  const Tensor& table = call[1];
  require(table.type == DType::f32, "the GPU's table of angles is f32");
  const int64_t H = table.columns(), half = H / 2;
  for (int64_t first = 0; first < half; first += Table::kRun) {
    Table::Args args{call[0].as<int32_t>(), table.as<float>(), H, first, {}};
    const int64_t count = std::min<int64_t>(Table::kRun, half - first);
    for (int64_t i = 0; i < count; ++i) {
      const double exponent = -2.0 * static_cast<double>(first + i) / static_cast<double>(H);
      args.frequencies[i] = static_cast<float>(std::pow(spec.base, exponent) / spec.scale);
    }
    launch_rows<Table>(stream_of(context), args, table.rows(), count, false);
  }
}

template <bool kBack>
void turn_all(const Call& call, const LaunchContext& context, const Tensor& in, const Tensor& out) {
  const auto& spec = call.get<op::RopeSpec>();
  const Tensor& table = call[1];
  const int64_t half = spec.head_dim / 2, turned = spec.heads + spec.kv_heads;
  const bool in_place = in.data() == out.data();
  with_type(call, in.type, [&]<class T>(Type<T>) {
    launch_rows<Turn<T, kBack>>(stream_of(context),
                                {in.as<T>(), out.as<T>(), table.as<float>(), in.columns(),
                                 static_cast<uint32_t>(half), static_cast<uint32_t>(turned)},
                                in.rows(), (turned + (in_place ? 0 : spec.kv_heads)) * half,
                                half % kVector<T> == 0 && aligned({in.data(), out.data(), table.data()}));
  });
}

NormedArgs normed(const Call& call, const Tensor& in, const Tensor& out, const Tensor& wq, const Tensor& wk,
                  const Tensor& rstd) {
  const auto& spec = call.get<op::RopeSpec>();
  NormedArgs a;
  a.M = in.rows();
  a.width = in.columns();
  a.N = static_cast<int>(spec.heads);
  a.K = static_cast<int>(spec.kv_heads);
  a.H = static_cast<int>(spec.head_dim);
  a.eps = static_cast<float>(spec.eps);
  a.q_bf16 = wq.type == DType::bf16;
  a.k_bf16 = wk.type == DType::bf16;
  a.in = in.data();
  a.out = out.data();
  a.wq = wq.data();
  a.wk = wk.data();
  a.table = call[1].as<float>();
  a.rstd = rstd.as<float>();
  return a;
}

bool wide_heads(const NormedArgs& a, int64_t vector) {
  return a.H / 2 % vector == 0 && aligned({a.in, a.out, a.wq, a.wk, a.table, a.qkv});
}

void rope(const Call& call, const LaunchContext& context) {
  const Tensor &qkv = call[0], &wq = call[2], &out = call[4];
  if (!wq) return turn_all<false>(call, context, qkv, out);
  const NormedArgs a = normed(call, qkv, out, wq, call[3], call[5]);
  const int64_t teams = a.M * (a.N + 2 * a.K);
  with_type(call, qkv.type, [&]<class T>(Type<T>) {
    wide_heads(a, kVector<T>) ? launch<NormedTurn<T, kVector<T>>, kHeadThreads>(stream_of(context), teams, a)
                              : launch<NormedTurn<T, 1>, kHeadThreads>(stream_of(context), teams, a);
  });
}

// Slices of heads whose sums are added by a tree (docs/design.md section 4), where heads are cut at all; else
// every head is one, for there is then the most to do at a time.
int slices_of(const Call& call, int heads) {
  if (heads == 0 || !call.tiles.deterministic) return heads;
  return heads % call.tiles.slices == 0 ? static_cast<int>(call.tiles.slices) : 1;
}

int64_t blocks_of_tokens(const Call& call) {
  return (call[0].rows() + call.tiles.token_block - 1) / call.tiles.token_block;
}

int64_t rope_grad_workspace(const Call& call, const LaunchContext&) {
  if (!call[3]) return 0;
  const auto& spec = call.get<op::RopeSpec>();
  const int64_t slices =
      slices_of(call, static_cast<int>(spec.heads)) + slices_of(call, static_cast<int>(spec.kv_heads));
  return blocks_of_tokens(call) * slices * spec.head_dim * bytes_of(DType::f32);
}

void rope_grad(const Call& call, const LaunchContext& context) {
  const Tensor &d_out = call[0], &wq = call[3], &d_qkv = call[6];
  if (!wq) return turn_all<true>(call, context, d_out, d_qkv);
  NormedArgs a = normed(call, d_out, d_qkv, wq, call[4], call[5]);
  a.qkv = call[2].data();
  a.token_block = static_cast<int>(call.tiles.token_block);
  a.q_slices = slices_of(call, a.N);
  a.k_slices = slices_of(call, a.K);
  a.copies = d_out.data() == d_qkv.data() ? 0 : a.K;
  a.blocks = reinterpret_cast<float*>(context.workspace);
  const cudaStream_t stream = stream_of(context);
  const int64_t blocks = blocks_of_tokens(call), slices = a.q_slices + a.k_slices,
                teams = blocks * (slices + a.copies);
  with_type(call, d_out.type, [&]<class T>(Type<T>) {
    constexpr int kWidth = kVector<T>;
    const bool wide = wide_heads(a, kWidth), kept = a.H / 2 <= kHeadThreads * kWidth;
    wide&& kept ? launch<NormedTurnGrad<T, 1, kWidth>, kHeadThreads>(stream, teams, a)
                : launch<NormedTurnGrad<T, 0, 1>, kHeadThreads>(stream, teams, a);
  });
  if (blocks == 0) return;
  const int64_t stride = slices * a.H;
  add_tree(stream, a.blocks, blocks, stride, static_cast<int>(stride), nullptr);
  add_tree(stream, a.blocks, a.q_slices, a.H, a.H, call[7].as<float>());
  add_tree(stream, a.blocks + a.q_slices * a.H, a.k_slices, a.H, a.H, call[8].as<float>());
}

}  // namespace

void add_rope_kernels(KernelRegistry& registry) {
  registry.add(op::rope_table_kind, {rope_table});
  registry.add(op::rope_kind, {rope});
  registry.add(op::rope_grad_kind, {rope_grad, rope_grad_workspace});
}

}  // namespace toroid::cuda
