// Sums in an order that the length alone fixes: blocks of kReduceBlock elements, a team each, then one team
// over the blocks' sums.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/combine.h"
#include "core/op/reduce.h"

namespace toroid::cuda {
namespace {

constexpr int kThreads = 256;
// So that a block is summed in one order, whether its elements are read as vectors or one by one, each thread
// takes the same ones: four that follow each other, four times.
constexpr int kGroup = 4, kGroups = static_cast<int>(op::kReduceBlock) / (kThreads * kGroup);
static_assert(kGroups * kThreads * kGroup == op::kReduceBlock);

template <class T>
struct BlockArgs {
  const T* x;
  int64_t n;
  float* partial;
};

template <class T, bool kSquares, bool kWhole>
struct SumBlock {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const BlockArgs<T>& a) const {
    const int64_t first = team.index() * op::kReduceBlock, left = a.n - first;
    const int count = left < op::kReduceBlock ? static_cast<int>(left) : static_cast<int>(op::kReduceBlock);
    Own<Team, float> total;
    each<kGroups, kGroup>(team, count, [&](const auto& at) {
      Floats<kGroup> v;
      if constexpr (kWhole) {
        v = load<kGroup>(a.x + first + at.i);
      } else {
        TOROID_UNROLL
        for (int j = 0; j < kGroup; ++j) {
          v.v[j] = 0.0f;
          if (at.i + j < count) v.v[j] = load<1>(a.x + first + at.i + j).v[0];
        }
      }
      TOROID_UNROLL
      for (const float e : v.v) total[at] = kSquares ? fma(e, e, total[at]) : total[at] + e;
    });
    const float sum_of_all = sum(team, total);
    once(team, [&](const auto&) { a.partial[team.index()] = sum_of_all; });
  }
};

struct SumAllArgs {
  const float* partial;
  int count;
  float* total;
  bool accumulate, inverse_root;
  float least;
};
struct SumAll {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const SumAllArgs& a) const {
    Own<Team, float> own;
    sweep<1>(team, a.count, [&](const auto& at) { own[at] = own[at] + a.partial[at.i]; });
    const float found = sum(team, own);
    once(team, [&](const auto&) {
      if (a.inverse_root) {
        const float norm = root(found);
        *a.total = norm < a.least ? a.least : norm;
      } else {
        *a.total = a.accumulate ? *a.total + found : found;
      }
    });
  }
};

template <bool kSquares>
void sum_blocks(const Call& call, cudaStream_t stream, float* partial) {
  const Tensor& x = call[0];
  with_type(call, x.type, [&]<class T>(Type<T>) {
    const int64_t n = x.elements(), whole = aligned({x.data()}) ? n / op::kReduceBlock : 0;
    const int64_t rest = n - whole * op::kReduceBlock;
    launch<SumBlock<T, kSquares, true>, kThreads>(stream, whole, BlockArgs<T>{x.as<T>(), n, partial});
    launch<SumBlock<T, kSquares, false>, kThreads>(
        stream, op::reduce_blocks(rest),
        BlockArgs<T>{x.as<T>() + whole * op::kReduceBlock, rest, partial + whole});
  });
}

void sum_squares(const Call& call, const LaunchContext& context) {
  sum_blocks<true>(call, stream_of(context), call[1].as<float>());
}

int64_t sum_workspace(const Call& call, const LaunchContext&) {
  return op::reduce_blocks(call[0].elements()) * bytes_of(DType::f32);
}

void sum(const Call& call, const LaunchContext& context) {
  auto* const partial = reinterpret_cast<float*>(context.workspace);
  sum_blocks<false>(call, stream_of(context), partial);
  const auto blocks = static_cast<int>(op::reduce_blocks(call[0].elements()));
  launch<SumAll, kThreads>(
      stream_of(context), 1,
      SumAllArgs{partial, blocks, call[1].as<float>(), call.get<op::SumSpec>().accumulate, false, 0});
}

template <class T>
struct Divide {
  struct Args {
    const float *x, *norm;
    T* y;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static float begin(const Args& a) { return *a.norm; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, float norm, int64_t, int64_t i) {
    const auto x = load<kWidth>(a.x + i);
    store<kWidth>(a.y + i, make<kWidth>([&](int j) { return x.v[j] / norm; }));
  }
};

int64_t unit_norm_workspace(const Call&, const LaunchContext&) {
  return bytes_of(DType::f32);
}

void unit_norm(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &squares = call[1], &y = call[2];
  require(x.type == DType::f32, "the GPU takes the norm of f32");
  auto* const norm = reinterpret_cast<float*>(context.workspace);
  launch<SumAll, kThreads>(stream_of(context), 1,
                           SumAllArgs{squares.as<float>(), static_cast<int>(squares.elements()), norm, false,
                                      true, static_cast<float>(call.get<op::UnitNormSpec>().epsilon)});
  with_type(call, y.type, [&]<class T>(Type<T>) {
    launch_flat<Divide<T>>(stream_of(context), {x.as<float>(), norm, y.as<T>()}, x.elements(),
                           aligned({x.data(), y.data()}));
  });
}

}  // namespace

void add_reduce_kernels(KernelRegistry& registry) {
  registry.add(op::sum_squares_kind, {sum_squares});
  registry.add(op::sum_kind, {sum, sum_workspace});
  registry.add(op::unit_norm_kind, {unit_norm, unit_norm_workspace});
}

}  // namespace toroid::cuda
