// What pods exchange: compressed wires and their sums, the outer gradient and the outer step. Each streams
// its operands through once; the arithmetic is exact or element by element, so the bits depend on nothing
// but the operands.
#include "core/op/outer.h"

#include <cstring>

#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/wire.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/outer.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_OUTER_ARGS
#define TOROID_CORE_DEVICE_CPU_OUTER_ARGS
namespace toroid::cpu {

struct NesterovArgs {
  const float* gradient = nullptr;
  float *shared = nullptr, *momentum = nullptr, *master = nullptr;
  float inverse_pods = 1, rate = 0, decay = 0;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

using IntTag = hn::RebindToSigned<FloatTag>;
using ByteTag = hn::Rebind<int8_t, FloatTag>;

void compress_bf16(float* x, const float* residual, uint16_t* wire, int64_t n) {
  sweep(n, [=](int64_t i, auto span) HWY_ATTR {
    const Floats y = hn::Add(load(x + i, span), load(residual + i, span));
    store(y, wire + i, span);
    store(hn::Sub(y, rounded<Bf16>(y)), x + i, span);
  });
}

// Blocks are multiples of any vector's length.
void compress_blocks(float* x, const float* residual, std::byte* wire, int64_t blocks) {
  const IntTag ints;
  const Floats magic = splat(12582912.0f);  // adding and subtracting 1.5 * 2^23 rounds to nearest even
  for (int64_t b = 0; b < blocks; ++b, x += op::kQuantBlock, residual += op::kQuantBlock) {
    Floats largest = zero(), check = zero();  // check: NaN as soon as one value is not finite
    for (int64_t i = 0; i < op::kQuantBlock; i += lanes()) {
      const Floats y = hn::Add(load(x + i), load(residual + i));
      store(y, x + i);
      largest = hn::Max(largest, hn::Abs(y));
      check = hn::MulAdd(y, zero(), check);
    }
    const float bound =
        hn::GetLane(hn::MaxOfLanes(FloatTag(), largest)) + hn::GetLane(hn::SumOfLanes(FloatTag(), check));
    const float scale = op::quantised_scale(bound);
    const bool sends = scale > 0;
    const Floats s = splat(scale), divisor = splat(sends ? scale : 1.0f);
    auto* const to = reinterpret_cast<int8_t*>(wire) + b * op::kQuantBlockBytes;
    for (int64_t i = 0; i < op::kQuantBlock; i += lanes()) {
      const Floats y = load(x + i), ratio = hn::Div(y, divisor);
      const Floats q = sends ? hn::Sub(hn::Add(ratio, magic), magic) : zero();
      hn::StoreU(hn::DemoteTo(ByteTag(), hn::ConvertTo(ints, q)), ByteTag(), to + i);
      store(hn::Sub(y, hn::Mul(q, s)), x + i);
    }
    const uint16_t bits = to_bf16(scale);
    std::memcpy(to + op::kQuantBlock, &bits, sizeof bits);
  }
}

void sum_bf16(const uint16_t* wires, int64_t stride, int64_t rows, float* total, int64_t n) {
  sweep(n, [=](int64_t i, auto span) HWY_ATTR {
    Floats sum = zero();
    for (int64_t row = 0; row < rows; ++row) sum = hn::Add(sum, load(wires + row * stride + i, span));
    store(sum, total + i, span);
  });
}

void sum_blocks(const std::byte* wires, int64_t stride, int64_t rows, float* total, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, total += op::kQuantBlock) {
    for (int64_t row = 0; row < rows; ++row) {
      const auto* const from =
          reinterpret_cast<const int8_t*>(wires) + row * stride + b * op::kQuantBlockBytes;
      uint16_t bits = 0;
      std::memcpy(&bits, from + op::kQuantBlock, sizeof bits);
      const Floats scale = splat(from_bf16(bits));
      for (int64_t i = 0; i < op::kQuantBlock; i += lanes()) {
        const Floats q = hn::ConvertTo(FloatTag(), hn::PromoteTo(IntTag(), hn::LoadU(ByteTag(), from + i)));
        const Floats sum = row == 0 ? zero() : load(total + i);
        store(hn::Add(sum, hn::Mul(q, scale)), total + i);
      }
    }
  }
}

void subtract(const float* shared, const float* master, float* gradient, int64_t n) {
  sweep(n, [=](int64_t i, auto span) HWY_ATTR {
    store(hn::Sub(load(shared + i, span), load(master + i, span)), gradient + i, span);
  });
}

void nesterov_elements(const NesterovArgs& a, int64_t first, int64_t last) {
  const Floats inverse_pods = splat(a.inverse_pods), rate = splat(a.rate), decay = splat(a.decay);
  const float* const gradient = a.gradient + first;
  float *const shared_at = a.shared + first, *const momentum_at = a.momentum + first,
               *const master_at = a.master + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    const Floats g = hn::Mul(load(gradient + i, span), inverse_pods);
    const Floats momentum = hn::MulAdd(decay, load(momentum_at + i, span), g);
    const Floats shared = hn::Sub(load(shared_at + i, span), hn::Mul(rate, hn::MulAdd(decay, momentum, g)));
    store(momentum, momentum_at + i, span);
    store(shared, shared_at + i, span);
    store(shared, master_at + i, span);
  });
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(compress_bf16);
HWY_EXPORT(compress_blocks);
HWY_EXPORT(sum_bf16);
HWY_EXPORT(sum_blocks);
HWY_EXPORT(subtract);
HWY_EXPORT(nesterov_elements);

void compress(const Call& call, const LaunchContext& context) {
  auto* const x = call[0].as<float>();
  const auto* const residual = call[1].as<const float>();
  const int64_t n = call[0].elements(), bytes = 4 * call[0].bytes();
  if (call[2].type == DType::bf16) {
    const auto kernel = HWY_DYNAMIC_DISPATCH(compress_bf16);
    auto* const wire = call[2].as<uint16_t>();
    parallel_ranges(n, 64, bytes, context.threads, [&](Range range) {
      kernel(x + range.first, residual + range.first, wire + range.first, range.size());
    });
    return;
  }
  const auto kernel = HWY_DYNAMIC_DISPATCH(compress_blocks);
  std::byte* const wire = call[2].data();
  parallel_ranges(n / op::kQuantBlock, 1, bytes, context.threads, [&](Range range) {
    kernel(x + range.first * op::kQuantBlock, residual + range.first * op::kQuantBlock,
           wire + range.first * op::kQuantBlockBytes, range.size());
  });
}

void sum_wires(const Call& call, const LaunchContext& context) {
  const Tensor& wires = call[0];
  // Ranks of the CPU add up what is not rounded as it comes (parallel/comm): only tests ask for this.
  if (wires.type == DType::f32 || call.get<op::RowOrder>() == op::RowOrder::tree)
    return call.kind->reference(call);
  auto* const total = call[1].as<float>();
  const int64_t n = call[1].elements(), rows = wires.rows(), stride = wires.row_stride;
  const int64_t bytes = wires.bytes() + call[1].bytes();
  if (wires.type == DType::bf16) {
    const auto kernel = HWY_DYNAMIC_DISPATCH(sum_bf16);
    parallel_ranges(n, 64, bytes, context.threads, [&](Range range) {
      kernel(wires.as<const uint16_t>() + range.first, stride, rows, total + range.first, range.size());
    });
    return;
  }
  const auto kernel = HWY_DYNAMIC_DISPATCH(sum_blocks);
  parallel_ranges(n / op::kQuantBlock, 1, bytes, context.threads, [&](Range range) {
    kernel(wires.data() + range.first * op::kQuantBlockBytes, stride, rows,
           total + range.first * op::kQuantBlock, range.size());
  });
}

void outer_gradient(const Call& call, const LaunchContext& context) {
  const auto *const shared = call[0].as<const float>(), *const master = call[1].as<const float>();
  auto* const gradient = call[2].as<float>();
  const auto kernel = HWY_DYNAMIC_DISPATCH(subtract);
  parallel_ranges(call[0].elements(), 64, 3 * call[0].bytes(), context.threads, [&](Range range) {
    kernel(shared + range.first, master + range.first, gradient + range.first, range.size());
  });
}

void nesterov(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::NesterovSpec>();
  const NesterovArgs args{.gradient = call[0].as<const float>(),
                          .shared = call[1].as<float>(),
                          .momentum = call[2].as<float>(),
                          .master = call[3].as<float>(),
                          .inverse_pods = static_cast<float>(1 / static_cast<double>(spec.pods)),
                          .rate = static_cast<float>(spec.learning_rate),
                          .decay = static_cast<float>(spec.momentum)};
  const auto kernel = HWY_DYNAMIC_DISPATCH(nesterov_elements);
  parallel_ranges(call[0].elements(), 64, 6 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

}  // namespace

void add_outer_kernels(KernelRegistry& registry) {
  registry.add(op::compress_kind, {compress});
  registry.add(op::sum_wires_kind, {sum_wires});
  registry.add(op::outer_gradient_kind, {outer_gradient});
  registry.add(op::nesterov_kind, {nesterov});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
