// Fill, add, cast and the soft-cap: one pass over dense elements.
#include "core/op/elementwise.h"

#include <cstring>

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/loss.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/elementwise.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_ELEMENTWISE_ARGS
#define TOROID_CORE_DEVICE_CPU_ELEMENTWISE_ARGS
namespace toroid::cpu {

enum class Pass : uint8_t { add, cast, softcap };

struct PassArgs {
  Pass pass = Pass::add;
  bool x_bf16 = false, y_bf16 = false;
  Matrix x, y;
  int64_t columns = 0;
  float cap = 0;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

template <class X, class Y>
void pass_row_of(const PassArgs& a, const X* x, Y* y, int64_t n) {
  switch (a.pass) {
    case Pass::add:
      return sweep(n, [=](int64_t i, auto span)
                          HWY_ATTR { store(hn::Add(load(y + i, span), load(x + i, span)), y + i, span); });
    case Pass::cast:
      return sweep(n, [=](int64_t i, auto span) HWY_ATTR { store(load(x + i, span), y + i, span); });
    case Pass::softcap: {
      const Floats cap = splat(a.cap), inverse = splat(1.0f / a.cap);
      return sweep(n, [=](int64_t i, auto span) HWY_ATTR {
        store(hn::Mul(cap, tanh(hn::Mul(load(x + i, span), inverse))), y + i, span);
      });
    }
  }
}

template <class X, class Y>
void pass_rows_of(const PassArgs& a, Range rows, Range columns) {
  for (int64_t r = rows.first; r < rows.last; ++r) {
    pass_row_of(a, a.x.row<const X>(r) + columns.first, a.y.row<Y>(r) + columns.first, columns.size());
  }
}

void pass_rows(const PassArgs& a, Range rows, Range columns) {
  if (a.x_bf16) {
    a.y_bf16 ? pass_rows_of<Bf16, Bf16>(a, rows, columns) : pass_rows_of<Bf16, float>(a, rows, columns);
  } else {
    a.y_bf16 ? pass_rows_of<float, Bf16>(a, rows, columns) : pass_rows_of<float, float>(a, rows, columns);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(pass_rows);

void run_pass(const Call& call, Pass pass, float cap, int threads) {
  const Tensor &x = call[0], &y = call[1];
  if (!vector_type(x) || !vector_type(y)) return call.kind->reference(call);
  PassArgs args{.pass = pass,
                .x_bf16 = x.type == DType::bf16,
                .y_bf16 = y.type == DType::bf16,
                .x = Matrix(x),
                .y = Matrix(y),
                .columns = x.columns(),
                .cap = cap};
  const auto kernel = HWY_DYNAMIC_DISPATCH(pass_rows);
  const int64_t bytes = x.bytes() + y.bytes();
  if (x.dense() && y.dense()) {
    parallel_ranges(x.elements(), 64, bytes, threads, [&](Range range) { kernel(args, {0, 1}, range); });
  } else {
    parallel_ranges(x.rows(), 1, bytes, threads, [&](Range range) { kernel(args, range, {0, x.columns()}); });
  }
}

void add(const Call& call, const LaunchContext& context) {
  run_pass(call, Pass::add, 0, context.threads);
}

void cast(const Call& call, const LaunchContext& context) {
  run_pass(call, Pass::cast, 0, context.threads);
}

void softcap(const Call& call, const LaunchContext& context) {
  run_pass(call, Pass::softcap, static_cast<float>(call.get<op::SoftcapSpec>().cap), context.threads);
}

template <class T>
void fill_elements(T* x, T value, int64_t n, int threads) {
  parallel_ranges(n, 64, n * int64_t{sizeof(T)}, threads, [=](Range range) {
    // memset knows when to write past the caches.
    if (value == T{}) {
      std::memset(static_cast<void*>(x + range.first), 0, static_cast<size_t>(range.size()) * sizeof(T));
    } else {
      std::fill(x + range.first, x + range.last, value);
    }
  });
}

void fill(const Call& call, const LaunchContext& context) {
  const Tensor& x = call[0];
  const auto value = static_cast<float>(call.get<op::FillSpec>().value);
  if (!vector_type(x) || !x.dense()) return call.kind->reference(call);
  if (x.type == DType::bf16) {
    fill_elements(x.as<uint16_t>(), to_bf16(value), x.elements(), context.threads);
  } else {
    // As words, so that minus zero is not taken for zero.
    fill_elements(x.as<uint32_t>(), std::bit_cast<uint32_t>(value), x.elements(), context.threads);
  }
}

}  // namespace

void add_elementwise_kernels(KernelRegistry& registry) {
  registry.add(op::fill_kind, {fill});
  registry.add(op::add_kind, {add});
  registry.add(op::cast_kind, {cast});
}

void add_softcap_kernels(KernelRegistry& registry) {
  registry.add(op::softcap_kind, {softcap});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
