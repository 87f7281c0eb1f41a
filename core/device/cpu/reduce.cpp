// Sums in an order that the length alone fixes: whole blocks of kReduceBlock elements, then a balanced tree.
#include "core/op/reduce.h"

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/tree.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/reduce.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// partial[b] of blocks [first, last): the sum of the block's elements, or of their squares.
template <class T>
void sum_blocks_of(const T* x, int64_t n, bool squares, float* partial, int64_t first, int64_t last) {
  for (int64_t block = first; block < last; ++block) {
    const T* const from = x + block * op::kReduceBlock;
    const int64_t count = HWY_MIN(op::kReduceBlock, n - block * op::kReduceBlock);
    partial[block] = squares ? sum_over(count,
                                        [=](int64_t i, auto span, Floats sum) HWY_ATTR {
                                          const Floats v = load(from + i, span);
                                          return hn::MulAdd(v, v, sum);
                                        })
                             : sum_over(count, [=](int64_t i, auto span, Floats sum)
                                                   HWY_ATTR { return hn::Add(load(from + i, span), sum); });
  }
}

void sum_blocks(const void* x, bool bf16, int64_t n, bool squares, float* partial, int64_t first,
                int64_t last) {
  if (bf16) {
    sum_blocks_of(static_cast<const Bf16*>(x), n, squares, partial, first, last);
  } else {
    sum_blocks_of(static_cast<const float*>(x), n, squares, partial, first, last);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(sum_blocks);

int64_t blocks_of(const Tensor& x) {
  return op::reduce_blocks(x.elements());
}

void run_blocks(const Tensor& x, bool squares, float* partial, int threads) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(sum_blocks);
  parallel_ranges(blocks_of(x), 1, x.bytes(), threads, [&](Range range) {
    kernel(x.data(), x.type == DType::bf16, x.elements(), squares, partial, range.first, range.last);
  });
}

void sum_squares(const Call& call, const LaunchContext& context) {
  if (!vector_type(call[0])) return call.kind->reference(call);
  run_blocks(call[0], true, call[1].as<float>(), context.threads);
}

int64_t sum_workspace(const Call& call, const LaunchContext&) {
  return blocks_of(call[0]) * bytes_of(DType::f32);
}

void sum(const Call& call, const LaunchContext& context) {
  if (!vector_type(call[0])) return call.kind->reference(call);
  auto* const partial = reinterpret_cast<float*>(context.workspace);
  run_blocks(call[0], false, partial, context.threads);
  auto* const total = call[1].as<float>();
  const float found = tree_sum(partial, blocks_of(call[0]));
  *total = call.get<op::SumSpec>().accumulate ? *total + found : found;
}

}  // namespace

void add_reduce_kernels(KernelRegistry& registry) {
  registry.add(op::sum_squares_kind, {sum_squares});
  registry.add(op::sum_kind, {sum, sum_workspace});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
