// The normal initialiser: core/base/random.h's generator, several blocks of four numbers at a time. Whoever
// draws an element gets the same bits, since every element takes this one path.
#include <cmath>
#include <numbers>

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/init.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

using DoubleTag = hn::ScalableTag<double>;
using Doubles = hn::Vec<DoubleTag>;

inline constexpr int64_t kMostBlocks = HWY_MAX_BYTES / sizeof(double);

// Box-Muller as normal() does it: radius from a pair's first word, angle from its second.
HWY_INLINE void box_muller(const double* first, const double* second, double* even, double* odd) {
  const DoubleTag d;
  const Doubles u = hn::Mul(hn::Add(hn::LoadU(d, first), hn::Set(d, 1.0)), hn::Set(d, 0x1p-32));
  const Doubles angle = hn::Mul(hn::LoadU(d, second), hn::Set(d, 2.0 * std::numbers::pi * 0x1p-32));
  const Doubles radius = hn::Sqrt(hn::Mul(hn::Set(d, -2.0), hn::Log(d, u)));
  hn::StoreU(hn::Mul(radius, hn::Cos(d, angle)), d, even);
  hn::StoreU(hn::Mul(radius, hn::Sin(d, angle)), d, odd);
}

// Elements [first, last) of a tensor whose element 0 has the global index spec.first.
void normal_elements(const op::InitSpec& spec, bool bf16, void* x, int64_t first, int64_t last) {
  const auto blocks = static_cast<int64_t>(hn::Lanes(DoubleTag()));
  double words[4][kMostBlocks], normals[4][kMostBlocks];
  for (int64_t block = (spec.first + first) / 4; 4 * block < spec.first + last; block += blocks) {
    for (int64_t lane = 0; lane < blocks; ++lane) {
      const auto drawn = philox(spec.key, static_cast<uint64_t>(block + lane));
      for (size_t i = 0; i < 4; ++i) words[i][lane] = static_cast<double>(drawn[i]);
    }
    box_muller(words[0], words[1], normals[0], normals[1]);
    box_muller(words[2], words[3], normals[2], normals[3]);
    const int64_t start = 4 * block - spec.first;
    for (int64_t i = HWY_MAX(start, first); i < HWY_MIN(start + 4 * blocks, last); ++i) {
      // normal() returns a float.
      const auto drawn = static_cast<float>(normals[(i - start) % 4][(i - start) / 4]);
      const auto value = static_cast<float>(spec.stddev * static_cast<double>(drawn));
      if (bf16) {
        static_cast<uint16_t*>(x)[i] = to_bf16(value);
      } else {
        static_cast<float*>(x)[i] = value;
      }
    }
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(normal_elements);

void init_normal(const Call& call, const LaunchContext& context) {
  const Tensor& x = call[0];
  if (!vector_type(x) || !x.dense()) return call.kind->reference(call);
  const auto& spec = call.get<op::InitSpec>();
  const auto kernel = HWY_DYNAMIC_DISPATCH(normal_elements);
  parallel_ranges(x.elements(), 64, 64 * x.elements(), context.threads, [&](Range range) {
    kernel(spec, x.type == DType::bf16, x.data(), range.first, range.last);
  });
}

}  // namespace

void add_init_kernels(KernelRegistry& registry) {
  registry.add(op::init_normal_kind, {init_normal});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
