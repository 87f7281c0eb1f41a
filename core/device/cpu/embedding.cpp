// Rows of the embedding table for tokens, and their gradient. M tokens, V vocabulary, D d_model.
#include "core/op/embedding.h"

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/embedding.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_EMBEDDING_ARGS
#define TOROID_CORE_DEVICE_CPU_EMBEDDING_ARGS
namespace toroid::cpu {

struct EmbedArgs {
  bool bf16 = false, table_bf16 = false;  // the types of x or dx and, forward, of the table
  const int32_t* ids = nullptr;
  int64_t M = 0, V = 0, D = 0, first_row = 0;
  float scale = 1;
  Matrix table, x;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

template <class Table, class T>
void embed_rows_of(const EmbedArgs& a, int64_t first, int64_t last) {
  const Floats scale = splat(a.scale);
  for (int64_t m = first; m < last; ++m) {
    const int64_t row = a.ids[m] - a.first_row;
    T* const x = a.x.row<T>(m);
    if (row < 0 || row >= a.V) {
      sweep(a.D, [=](int64_t i, auto span) HWY_ATTR { store(zero(), x + i, span); });
      continue;
    }
    const Table* const from = a.table.row<const Table>(row);
    sweep(a.D, [=](int64_t i, auto span)
                   HWY_ATTR { store(hn::Mul(scale, rounded<T>(load(from + i, span))), x + i, span); });
  }
}

void embed_rows(const EmbedArgs& a, int64_t first, int64_t last) {
  if (a.table_bf16) {
    a.bf16 ? embed_rows_of<Bf16, Bf16>(a, first, last) : embed_rows_of<Bf16, float>(a, first, last);
  } else {
    a.bf16 ? embed_rows_of<float, Bf16>(a, first, last) : embed_rows_of<float, float>(a, first, last);
  }
}

// All tokens in order, columns [first, last) of each row: whoever owns a column adds to it in that order.
template <class T>
void embed_grad_columns_of(const EmbedArgs& a, int64_t first, int64_t last) {
  const Floats scale = splat(a.scale);
  for (int64_t m = 0; m < a.M; ++m) {
    const int64_t row = a.ids[m] - a.first_row;
    if (row < 0 || row >= a.V) continue;
    const T* const dx = a.x.row<const T>(m) + first;
    float* const to = a.table.row<float>(row) + first;
    sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
      store(hn::MulAdd(scale, load(dx + i, span), load(to + i, span)), to + i, span);
    });
  }
}

void embed_grad_columns(const EmbedArgs& a, int64_t first, int64_t last) {
  a.bf16 ? embed_grad_columns_of<Bf16>(a, first, last) : embed_grad_columns_of<float>(a, first, last);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(embed_rows);
HWY_EXPORT(embed_grad_columns);

EmbedArgs arguments(const Call& call, const Tensor& table, const Tensor& x) {
  const auto& spec = call.get<op::EmbedSpec>();
  const auto scale = static_cast<float>(spec.scale);
  const bool bf16 = x.type == DType::bf16;
  return {.bf16 = bf16,
          .table_bf16 = table.type == DType::bf16,
          .ids = call[0].as<const int32_t>(),
          .M = x.rows(),
          .V = table.rows(),
          .D = x.columns(),
          .first_row = spec.first_row,
          .scale = bf16 ? from_bf16(to_bf16(scale)) : scale,
          .table = Matrix(table),
          .x = Matrix(x)};
}

void embed(const Call& call, const LaunchContext& context) {
  const Tensor &table = call[1], &x = call[2];
  if (!vector_type(table) || !vector_type(x)) return call.kind->reference(call);
  const EmbedArgs args = arguments(call, table, x);
  const auto kernel = HWY_DYNAMIC_DISPATCH(embed_rows);
  parallel_ranges(args.M, 1, 2 * x.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

void embed_grad(const Call& call, const LaunchContext& context) {
  const Tensor &dx = call[1], &d_table = call[2];
  if (!vector_type(dx) || d_table.type != DType::f32) return call.kind->reference(call);
  const EmbedArgs args = arguments(call, d_table, dx);
  const auto kernel = HWY_DYNAMIC_DISPATCH(embed_grad_columns);
  parallel_ranges(args.D, 16, 3 * dx.bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

}  // namespace

void add_embedding_kernels(KernelRegistry& registry) {
  registry.add(op::embed_kind, {embed});
  registry.add(op::embed_grad_kind, {embed_grad});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
