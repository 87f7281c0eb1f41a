// RMSNorm, its gradient, and the additions to the residual stream that border on it. M tokens, D d_model. A
// row comes from memory once: what a second pass over it reads lies in the first-level cache.
#include "core/op/norm.h"

#include <cmath>

#include "core/device/cpu/gain.h"
#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/tree.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/norm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_NORM_ARGS
#define TOROID_CORE_DEVICE_CPU_NORM_ARGS
namespace toroid::cpu {

// x + norm(f) -> mid -> norm(mid) -> y: each of the forward kinds is this with parts left out.
struct NormArgs {
  bool bf16 = false;
  int64_t D = 0;
  float eps = 0;
  Matrix x, f, mid, y;
  const float *gain = nullptr, *post_gain = nullptr;  // 1 + w in fp32
  float *rstd = nullptr, *rstd_post = nullptr;
};

struct NormGradArgs {
  bool bf16 = false;
  int64_t M = 0, D = 0, token_block = 0;
  Matrix dy, x, skip, dx, y;
  const float *gain = nullptr, *rstd = nullptr;
  float* dw_blocks = nullptr;  // [blocks, D]
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

template <class T>
HWY_INLINE float inverse_rms(const T* row, const NormArgs& a) {
  const float squares = sum_over(a.D, [=](int64_t i, auto span, Floats sum) HWY_ATTR {
    const Floats v = load(row + i, span);
    return hn::MulAdd(v, v, sum);
  });
  return 1.0f / std::sqrt(squares / static_cast<float>(a.D) + a.eps);
}

template <class T>
void norm_rows_of(const NormArgs& a, int64_t first, int64_t last) {
  for (int64_t m = first; m < last; ++m) {
    const T* normed = a.x.row<const T>(m);
    if (a.f) {
      const T *const x = normed, *const f = a.f.row<const T>(m);
      T* const mid = a.mid.row<T>(m);
      if (a.post_gain != nullptr) {
        const float rstd = inverse_rms(f, a);
        if (a.rstd_post != nullptr) a.rstd_post[m] = rstd;
        const Floats r = splat(rstd);
        const float* const gain = a.post_gain;
        sweep(a.D, [=](int64_t i, auto span) HWY_ATTR {
          const Floats post = hn::Mul(hn::Mul(load(f + i, span), r), load(gain + i, span));
          store(hn::Add(load(x + i, span), rounded<T>(post)), mid + i, span);
        });
      } else {
        sweep(a.D, [=](int64_t i, auto span)
                       HWY_ATTR { store(hn::Add(load(x + i, span), load(f + i, span)), mid + i, span); });
      }
      normed = mid;
    }
    if (!a.y) continue;
    const float rstd = inverse_rms(normed, a);
    if (a.rstd != nullptr) a.rstd[m] = rstd;
    const Floats r = splat(rstd);
    const float* const gain = a.gain;
    T* const y = a.y.row<T>(m);
    sweep(a.D, [=](int64_t i, auto span) HWY_ATTR {
      store(hn::Mul(hn::Mul(load(normed + i, span), r), load(gain + i, span)), y + i, span);
    });
  }
}

void norm_rows(const NormArgs& a, int64_t first, int64_t last) {
  a.bf16 ? norm_rows_of<Bf16>(a, first, last) : norm_rows_of<float>(a, first, last);
}

// With g = dy (1 + w):  dx = rstd g - x rstd^3 mean(g x);  dw = sum over tokens of dy x rstd.
template <class T, bool kSkip, bool kAgain>
void norm_grad_row(const NormGradArgs& a, int64_t m, float* dw) {
  const T *const dy = a.dy.row<const T>(m), *const x = a.x.row<const T>(m);
  const T* const skip = a.skip.row<const T>(m);
  T *const dx = a.dx.row<T>(m), *const y = a.y.row<T>(m);
  const float* const gain = a.gain;
  const float rstd = a.rstd[m];
  const float dot = sum_over(a.D, [=](int64_t i, auto span, Floats sum) HWY_ATTR {
    return hn::MulAdd(hn::Mul(load(dy + i, span), load(gain + i, span)), load(x + i, span), sum);
  });
  const Floats r = splat(rstd), along = splat(rstd * rstd * (dot / static_cast<float>(a.D)));
  sweep(a.D, [=](int64_t i, auto span) HWY_ATTR {
    const Floats g = load(dy + i, span), xr = hn::Mul(load(x + i, span), r), w = load(gain + i, span);
    Floats d = hn::NegMulAdd(xr, along, hn::Mul(hn::Mul(g, w), r));
    if constexpr (kSkip) d = hn::Add(d, load(skip + i, span));
    store(hn::MulAdd(g, xr, load(dw + i, span)), dw + i, span);
    store(d, dx + i, span);
    if constexpr (kAgain) store(hn::Mul(xr, w), y + i, span);
  });
}

template <class T>
void norm_grad_blocks_of(const NormGradArgs& a, int64_t first, int64_t last) {
  for (int64_t block = first; block < last; ++block) {
    float* const dw = a.dw_blocks + block * a.D;
    sweep(a.D, [=](int64_t i, auto span) HWY_ATTR { store(zero(), dw + i, span); });
    const int64_t end = HWY_MIN(a.M, (block + 1) * a.token_block);
    for (int64_t m = block * a.token_block; m < end; ++m) {
      if (a.skip) {
        a.y ? norm_grad_row<T, true, true>(a, m, dw) : norm_grad_row<T, true, false>(a, m, dw);
      } else {
        a.y ? norm_grad_row<T, false, true>(a, m, dw) : norm_grad_row<T, false, false>(a, m, dw);
      }
    }
  }
}

void norm_grad_blocks(const NormGradArgs& a, int64_t first, int64_t last) {
  a.bf16 ? norm_grad_blocks_of<Bf16>(a, first, last) : norm_grad_blocks_of<float>(a, first, last);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

using op::NormSpec;

HWY_EXPORT(norm_rows);
HWY_EXPORT(norm_grad_blocks);

struct Weights {
  const Tensor &w, &post;
};

int64_t gains_bytes(const Weights& weights) {
  return (gain_floats(weights.w) + gain_floats(weights.post)) * bytes_of(DType::f32);
}

void run_rows(const Call& call, NormArgs args, const Weights& weights, std::byte* workspace, int threads) {
  const Tensor& x = call[0];
  auto* const gains = reinterpret_cast<float*>(workspace);
  args.bf16 = x.type == DType::bf16;
  args.D = x.columns();
  args.eps = static_cast<float>(call.get<NormSpec>().eps);
  args.x = Matrix(x);
  args.gain = fill_gain(weights.w, gains);
  args.post_gain = fill_gain(weights.post, gains + gain_floats(weights.w));
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_rows);
  parallel_ranges(x.rows(), 1, 2 * x.bytes(), threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

float* floats_or_null(const Tensor& t) {
  return t ? t.as<float>() : nullptr;
}

int64_t rms_norm_workspace(const Call& call, const LaunchContext&) {
  return gains_bytes({call[1], {}});
}

void rms_norm(const Call& call, const LaunchContext& context) {
  if (!one_type({&call[0], &call[2]}) || !vector_type(call[1])) return call.kind->reference(call);
  NormArgs args;
  args.y = Matrix(call[2]);
  args.rstd = floats_or_null(call[3]);
  run_rows(call, args, {call[1], {}}, context.workspace, context.threads);
}

int64_t residual_add_workspace(const Call& call, const LaunchContext&) {
  return gains_bytes({{}, call[2]});
}

void residual_add(const Call& call, const LaunchContext& context) {
  const Tensor& w_post = call[2];
  if (!one_type({&call[0], &call[1], &call[3]}) || (w_post && !vector_type(w_post))) {
    return call.kind->reference(call);
  }
  NormArgs args;
  args.f = Matrix(call[1]);
  args.mid = Matrix(call[3]);
  args.rstd_post = floats_or_null(call[4]);
  run_rows(call, args, {{}, w_post}, context.workspace, context.threads);
}

int64_t residual_norm_workspace(const Call& call, const LaunchContext&) {
  return gains_bytes({call[3], call[2]});
}

void residual_norm(const Call& call, const LaunchContext& context) {
  const Tensor& w_post = call[2];
  if (!one_type({&call[0], &call[1], &call[4], &call[5]}) || !vector_type(call[3]) ||
      (w_post && !vector_type(w_post))) {
    return call.kind->reference(call);
  }
  NormArgs args;
  args.f = Matrix(call[1]);
  args.mid = Matrix(call[4]);
  args.y = Matrix(call[5]);
  args.rstd = floats_or_null(call[6]);
  args.rstd_post = floats_or_null(call[7]);
  run_rows(call, args, {call[3], w_post}, context.workspace, context.threads);
}

int64_t token_blocks(const Call& call) {
  return (call[0].rows() + call.tiles.token_block - 1) / call.tiles.token_block;
}

int64_t rms_norm_grad_workspace(const Call& call, const LaunchContext&) {
  return gains_bytes({call[2], {}}) + token_blocks(call) * call[2].elements() * bytes_of(DType::f32);
}

void rms_norm_grad(const Call& call, const LaunchContext& context) {
  const Tensor &dy = call[0], &w = call[2];
  if (!one_type({&dy, &call[1], &call[4], &call[5], &call[7]}) || !vector_type(w)) {
    return call.kind->reference(call);
  }
  NormGradArgs args;
  args.bf16 = dy.type == DType::bf16;
  args.M = dy.rows();
  args.D = dy.columns();
  args.token_block = call.tiles.token_block;
  args.dy = Matrix(dy);
  args.x = Matrix(call[1]);
  args.skip = Matrix(call[4]);
  args.dx = Matrix(call[5]);
  args.y = Matrix(call[7]);
  args.gain = fill_gain(w, reinterpret_cast<float*>(context.workspace));
  args.rstd = call[3].as<const float>();
  args.dw_blocks = reinterpret_cast<float*>(context.workspace) + gain_floats(w);
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_grad_blocks);
  const int64_t blocks = token_blocks(call);
  parallel_ranges(blocks, 1, 3 * dy.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
  add_tree(args.dw_blocks, blocks, args.D, call[6].as<float>(), context.threads);
}

}  // namespace

void add_norm_kernels(KernelRegistry& registry) {
  registry.add(op::rms_norm_kind, {rms_norm, rms_norm_workspace});
  registry.add(op::rms_norm_grad_kind, {rms_norm_grad, rms_norm_grad_workspace});
  registry.add(op::residual_add_kind, {residual_add, residual_add_workspace});
  registry.add(op::residual_norm_kind, {residual_norm, residual_norm_workspace});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
