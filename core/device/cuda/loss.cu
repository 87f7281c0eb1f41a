// What the loss has beside its products: statistics of vocabulary slices, merged. M tokens, S slices.
#include "core/device/cuda/launch.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/loss.h"

namespace toroid::cuda {
namespace {

constexpr int kThreads = 32;

TOROID_DEVICE float minus_infinity() {
  return as_float(0xff800000u);
}

// ln x of a sum of exponentials; NaN stays NaN, and of nothing it is minus infinity.
TOROID_DEVICE float log_of(float x) {
  if (x == 0) return minus_infinity();
  return x > 0 && is_finite(static_cast<double>(x)) ? static_cast<float>(log(static_cast<double>(x))) : x;
}

struct MergeArgs {
  const float* statistics;  // [3 S, M]
  const int32_t* targets;
  float *token_loss, *normalisers;  // [M], [2, M]
  int64_t M;
  int slices;
};

// A team takes a token, its threads the slices. All are brought to the largest logit of all before they are
// added, so that the tree is one whatever the slices hold.
struct Merge {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const MergeArgs& a) const {
    const int64_t m = team.index();
    Own<Team, float> top, total, hit;
    each<1, 1>(team, kThreads, [&](const auto& at) { top[at] = minus_infinity(); });
    const auto slice = [&](int s, int row) {
      return a.statistics[(3 * static_cast<int64_t>(s) + row) * a.M + m];
    };
    sweep<1>(team, a.slices, [&](const auto& at) {
      const float one = slice(at.i, 0);
      if (one > top[at] || one != one) top[at] = one;
    });
    const float most = largest(team, top);
    sweep<1>(team, a.slices, [&](const auto& at) {
      const float part = slice(at.i, 1);
      if (part != 0)
        total[at] = total[at] + part * exp(slice(at.i, 0) - most);  // a slice of padding has none
      hit[at] = hit[at] + slice(at.i, 2);
    });
    const float all = sum(team, total), target = sum(team, hit), norm = most + log_of(all);
    once(team, [&](const auto&) {
      a.normalisers[m] = most;
      a.normalisers[a.M + m] = norm;
      a.token_loss[m] = a.targets[m] < 0 ? 0.0f : norm - target;
    });
  }
};

void loss_merge(const Call& call, const LaunchContext& context) {
  const Tensor& statistics = call[0];
  require(statistics.type == DType::f32, "the GPU merges statistics in f32");
  const int64_t M = statistics.columns();
  launch<Merge, kThreads>(stream_of(context), M,
                          MergeArgs{statistics.as<float>(), call[1].as<int32_t>(), call[2].as<float>(),
                                    call[3].as<float>(), M, static_cast<int>(statistics.rows() / 3)});
}

}  // namespace

void add_loss_kernels(KernelRegistry& registry) {
  registry.add(op::loss_merge_kind, {loss_merge});
}

}  // namespace toroid::cuda
