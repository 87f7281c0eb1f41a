// Rotary position embedding, with the norm of queries and keys before it where the model has one. M tokens, N
// query heads, K key/value heads, H head_dim.
#include "core/op/rope.h"

#include <cmath>
#include <cstring>

#include "core/device/cpu/gain.h"
#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/tree.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/rope.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"
#include "hwy/contrib/math/math-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_ROPE_ARGS
#define TOROID_CORE_DEVICE_CPU_ROPE_ARGS
namespace toroid::cpu {

struct TableArgs {
  const int32_t* positions = nullptr;
  const float* frequencies = nullptr;  // [H / 2]
  Matrix table;
  int64_t half = 0;
};

struct RopeArgs {
  bool bf16 = false;
  int64_t M = 0, N = 0, K = 0, H = 0;
  float eps = 0;
  Matrix in, out, table;  // backward: `in` is d_out, `out` is d_qkv
  const float *q_gain = nullptr, *k_gain = nullptr;
  Matrix rstd;
  // Backward with norms.
  Matrix qkv;
  int64_t token_block = 0, q_slices = 0, k_slices = 0;
  float* blocks = nullptr;  // [blocks, (q_slices + k_slices + 1) H]: dwq, dwk and room for one head's row

  int64_t block_floats() const { return (q_slices + k_slices + 1) * H; }
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// Sines and cosines are taken in double of the fp32 angle, so that they are as exact at position 100,000 as
// at 1.
void table_rows(const TableArgs& a, int64_t first, int64_t last) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> narrow;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  constexpr double kReach = 39000;  // of Highway's sine
  for (int64_t m = first; m < last; ++m) {
    const auto position = static_cast<float>(a.positions[m]);
    float *const cosines = a.table.row<float>(m), *const sines = cosines + a.half;
    for (int64_t i = 0; i < a.half; i += step) {
      const int64_t count = HWY_MIN(step, a.half - i);
      float angles[HWY_MAX_BYTES / sizeof(double)] = {}, c[HWY_MAX_BYTES / sizeof(double)],
                                   s[HWY_MAX_BYTES / sizeof(double)];
      bool far = false;
      for (int64_t j = 0; j < count; ++j) {
        angles[j] = position * a.frequencies[i + j];
        far = far || std::abs(angles[j]) > kReach;
      }
      if (far) {
        for (int64_t j = 0; j < count; ++j) {
          c[j] = static_cast<float>(std::cos(static_cast<double>(angles[j])));
          s[j] = static_cast<float>(std::sin(static_cast<double>(angles[j])));
        }
      } else {
        const auto angle = hn::PromoteTo(d, hn::LoadU(narrow, angles));
        hn::StoreU(hn::DemoteTo(narrow, hn::Cos(d, angle)), narrow, c);
        hn::StoreU(hn::DemoteTo(narrow, hn::Sin(d, angle)), narrow, s);
      }
      std::memcpy(cosines + i, c, static_cast<size_t>(count) * sizeof(float));
      std::memcpy(sines + i, s, static_cast<size_t>(count) * sizeof(float));
    }
  }
}

// out = (a cos - b sin, b cos + a sin); in and out may be one.
template <class In, class Out>
HWY_INLINE void turn(const In* in, const float* cosines, int64_t half, Out* out) {
  sweep(half, [=](int64_t i, auto span) HWY_ATTR {
    const Floats a = load(in + i, span), b = load(in + half + i, span);
    const Floats c = load(cosines + i, span), s = load(cosines + half + i, span);
    store(hn::NegMulAdd(b, s, hn::Mul(a, c)), out + i, span);
    store(hn::MulAdd(a, s, hn::Mul(b, c)), out + half + i, span);
  });
}

// The inverse rotation.
template <class In, class Out>
HWY_INLINE void turn_back(const In* in, const float* cosines, int64_t half, Out* out) {
  sweep(half, [=](int64_t i, auto span) HWY_ATTR {
    const Floats a = load(in + i, span), b = load(in + half + i, span);
    const Floats c = load(cosines + i, span), s = load(cosines + half + i, span);
    store(hn::MulAdd(b, s, hn::Mul(a, c)), out + i, span);
    store(hn::NegMulAdd(a, s, hn::Mul(b, c)), out + half + i, span);
  });
}

template <class T>
HWY_INLINE float normed_head(const T* in, const float* gain, const RopeArgs& a, T* out) {
  const float squares = sum_over(a.H, [=](int64_t i, auto span, Floats sum) HWY_ATTR {
    const Floats v = load(in + i, span);
    return hn::MulAdd(v, v, sum);
  });
  const float rstd = 1.0f / std::sqrt(squares / static_cast<float>(a.H) + a.eps);
  const Floats r = splat(rstd);
  sweep(a.H, [=](int64_t i, auto span) HWY_ATTR {
    store(hn::Mul(hn::Mul(load(in + i, span), r), load(gain + i, span)), out + i, span);
  });
  return rstd;
}

template <class T>
void rope_rows_of(const RopeArgs& a, int64_t first, int64_t last) {
  const int64_t half = a.H / 2, turned = a.N + a.K;
  for (int64_t m = first; m < last; ++m) {
    const T* const in = a.in.row<const T>(m);
    T* const out = a.out.row<T>(m);
    const float* const cosines = a.table.row<const float>(m);
    for (int64_t n = 0; n < turned; ++n) {
      const T* head = in + n * a.H;
      if (a.q_gain != nullptr) {
        const float rstd = normed_head(head, n < a.N ? a.q_gain : a.k_gain, a, out + n * a.H);
        if (a.rstd) a.rstd.row<float>(m)[n] = rstd;
        head = out + n * a.H;
      }
      turn(head, cosines, half, out + n * a.H);
    }
    if (out != in) {
      std::memcpy(out + turned * a.H, in + turned * a.H, static_cast<size_t>(a.K * a.H) * sizeof(T));
    }
  }
}

void rope_rows(const RopeArgs& a, int64_t first, int64_t last) {
  a.bf16 ? rope_rows_of<Bf16>(a, first, last) : rope_rows_of<float>(a, first, last);
}

// Norm's gradient for one head, as in norm.cpp, from the fp32 row dy that the inverse rotation gave.
template <class T>
HWY_INLINE void head_grad(const float* dy, const T* x, const float* gain, float rstd, int64_t H, float* dw,
                          T* dx) {
  const float dot = sum_over(H, [=](int64_t i, auto span, Floats sum) HWY_ATTR {
    return hn::MulAdd(hn::Mul(load(dy + i, span), load(gain + i, span)), load(x + i, span), sum);
  });
  const Floats r = splat(rstd), along = splat(rstd * rstd * (dot / static_cast<float>(H)));
  sweep(H, [=](int64_t i, auto span) HWY_ATTR {
    const Floats g = load(dy + i, span), xr = hn::Mul(load(x + i, span), r);
    store(hn::MulAdd(g, xr, load(dw + i, span)), dw + i, span);
    store(hn::NegMulAdd(xr, along, hn::Mul(hn::Mul(g, load(gain + i, span)), r)), dx + i, span);
  });
}

template <class T>
void rope_grad_rows_of(const RopeArgs& a, int64_t first, int64_t last, float* block) {
  const int64_t half = a.H / 2, turned = a.N + a.K;
  for (int64_t m = first; m < last; ++m) {
    const T* const d_out = a.in.row<const T>(m);
    T* const d_qkv = a.out.row<T>(m);
    const float* const cosines = a.table.row<const float>(m);
    for (int64_t n = 0; n < turned; ++n) {
      const int64_t at = n * a.H;
      if (block == nullptr) {
        turn_back(d_out + at, cosines, half, d_qkv + at);
        continue;
      }
      float* const row = block + (a.q_slices + a.k_slices) * a.H;
      turn_back(d_out + at, cosines, half, row);
      const bool query = n < a.N;
      const int64_t slice = query ? n * a.q_slices / a.N : a.q_slices + (n - a.N) * a.k_slices / a.K;
      head_grad(row, a.qkv.row<const T>(m) + at, query ? a.q_gain : a.k_gain, a.rstd.row<const float>(m)[n],
                a.H, block + slice * a.H, d_qkv + at);
    }
    if (d_qkv != d_out) {
      std::memcpy(d_qkv + turned * a.H, d_out + turned * a.H, static_cast<size_t>(a.K * a.H) * sizeof(T));
    }
  }
}

// Blocks [first, last) of token_block tokens.
void rope_grad_blocks(const RopeArgs& a, int64_t first, int64_t last) {
  for (int64_t b = first; b < last; ++b) {
    const int64_t begin = b * a.token_block, end = HWY_MIN(a.M, begin + a.token_block);
    float* const block = a.blocks == nullptr ? nullptr : a.blocks + b * a.block_floats();
    if (block != nullptr) std::memset(block, 0, static_cast<size_t>(a.block_floats()) * sizeof(float));
    a.bf16 ? rope_grad_rows_of<Bf16>(a, begin, end, block) : rope_grad_rows_of<float>(a, begin, end, block);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(table_rows);
HWY_EXPORT(rope_rows);
HWY_EXPORT(rope_grad_blocks);

int64_t rope_table_workspace(const Call& call, const LaunchContext&) {
  return call[1].columns() / 2 * bytes_of(DType::f32);
}

void rope_table(const Call& call, const LaunchContext& context) {
  const Tensor& table = call[1];
  if (table.type != DType::f32) return call.kind->reference(call);
  const auto& spec = call.get<op::RopeTableSpec>();
  const int64_t H = table.columns();
  auto* const frequencies = reinterpret_cast<float*>(context.workspace);
  for (int64_t i = 0; i < H / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(H);
    frequencies[i] = static_cast<float>(std::pow(spec.base, exponent) / spec.scale);
  }
  const TableArgs args{.positions = call[0].as<const int32_t>(),
                       .frequencies = frequencies,
                       .table = Matrix(table),
                       .half = H / 2};
  const auto kernel = HWY_DYNAMIC_DISPATCH(table_rows);
  parallel_ranges(table.rows(), 1, 16 * table.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

RopeArgs arguments(const Call& call, const Tensor& in, const Tensor& out) {
  const auto& spec = call.get<op::RopeSpec>();
  RopeArgs args;
  args.bf16 = in.type == DType::bf16;
  args.M = in.rows();
  args.N = spec.heads;
  args.K = spec.kv_heads;
  args.H = spec.head_dim;
  args.eps = static_cast<float>(spec.eps);
  args.in = Matrix(in);
  args.out = Matrix(out);
  args.table = Matrix(call[1]);
  return args;
}

int64_t rope_workspace(const Call& call, const LaunchContext&) {
  return (gain_floats(call[2]) + gain_floats(call[3])) * bytes_of(DType::f32);
}

void rope(const Call& call, const LaunchContext& context) {
  const Tensor &qkv = call[0], &wq = call[2], &wk = call[3], &out = call[4];
  if (!one_type({&qkv, &out}) || (wq && (!vector_type(wq) || !vector_type(wk)))) {
    return call.kind->reference(call);
  }
  RopeArgs args = arguments(call, qkv, out);
  auto* const gains = reinterpret_cast<float*>(context.workspace);
  args.q_gain = fill_gain(wq, gains);
  args.k_gain = fill_gain(wk, gains + gain_floats(wq));
  args.rstd = Matrix(call[5]);
  const auto kernel = HWY_DYNAMIC_DISPATCH(rope_rows);
  parallel_ranges(args.M, 1, 2 * qkv.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

// Slices of heads whose sums are added by a tree (docs/design.md section 4); heads that they do not divide
// are one.
void cut(const Call& call, RopeArgs& args) {
  const auto slices_of = [&](int64_t heads) {
    if (heads == 0) return heads;
    return heads % call.tiles.slices == 0 ? call.tiles.slices : 1;
  };
  args.q_slices = slices_of(args.N);
  args.k_slices = slices_of(args.K);
  args.token_block = call.tiles.token_block;
}

int64_t rope_grad_workspace(const Call& call, const LaunchContext&) {
  const Tensor& wq = call[3];
  if (!wq) return 0;
  RopeArgs args = arguments(call, call[0], call[6]);
  cut(call, args);
  const int64_t blocks = (args.M + args.token_block - 1) / args.token_block;
  return (gain_floats(wq) + gain_floats(call[4]) + blocks * args.block_floats()) * bytes_of(DType::f32);
}

void rope_grad(const Call& call, const LaunchContext& context) {
  const Tensor &d_out = call[0], &qkv = call[2], &wq = call[3], &wk = call[4], &d_qkv = call[6];
  if (!one_type({&d_out, &qkv, &d_qkv}) || (wq && (!vector_type(wq) || !vector_type(wk)))) {
    return call.kind->reference(call);
  }
  RopeArgs args = arguments(call, d_out, d_qkv);
  cut(call, args);
  if (wq) {
    auto* const gains = reinterpret_cast<float*>(context.workspace);
    args.q_gain = fill_gain(wq, gains);
    args.k_gain = fill_gain(wk, gains + gain_floats(wq));
    args.blocks = gains + gain_floats(wq) + gain_floats(wk);
    args.qkv = Matrix(qkv);
    args.rstd = Matrix(call[5]);
  }
  const int64_t blocks = (args.M + args.token_block - 1) / args.token_block;
  const auto kernel = HWY_DYNAMIC_DISPATCH(rope_grad_blocks);
  parallel_ranges(blocks, 1, 2 * d_out.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
  if (!wq || blocks == 0) return;
  tree_rows(args.blocks, blocks, (args.q_slices + args.k_slices) * args.H, args.block_floats(),
            context.threads);
  add_tree(args.blocks, args.q_slices, args.H, call[7].as<float>(), 1);
  add_tree(args.blocks + args.q_slices * args.H, args.k_slices, args.H, call[8].as<float>(), 1);
}

}  // namespace

void add_rope_kernels(KernelRegistry& registry) {
  registry.add(op::rope_table_kind, {rope_table, rope_table_workspace});
  registry.add(op::rope_kind, {rope, rope_workspace});
  registry.add(op::rope_grad_kind, {rope_grad, rope_grad_workspace});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
