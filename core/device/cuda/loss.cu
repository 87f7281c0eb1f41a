// What the loss has beside its products: statistics of vocabulary slices, merged, and what is done to a block
// of logits. M tokens, S slices.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/loss_rows.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/loss.h"

namespace toroid::cuda {
namespace {

constexpr int kThreadsOfRow = 32;

TOROID_DEVICE float minus_infinity() {
  return as_float(0xff800000u);
}

// ln x of a sum of exponentials; NaN stays NaN, and of nothing it is minus infinity.
TOROID_DEVICE float log_of(float x) {
  if (x == 0) return minus_infinity();
  return x > 0 && is_finite(static_cast<double>(x)) ? static_cast<float>(log(static_cast<double>(x))) : x;
}

struct MergeArgs {
  SliceStatistics statistics;
  float *token_loss, *largest, *norms;
};

// A team takes a token, its threads the slices. All are brought to the largest logit of all before they are
// added, so that the tree is one whatever the slices hold.
struct Merge {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const MergeArgs& a) const {
    const int64_t m = team.index();
    Own<Team, float> top, total, hit;
    each<1, 1>(team, kThreadsOfRow, [&](const auto& at) { top[at] = minus_infinity(); });
    const auto slice = [&](int s, int row) {
      return a.statistics.of[(3 * static_cast<int64_t>(s) + row) * a.statistics.stride + m];
    };
    sweep<1>(team, a.statistics.slices, [&](const auto& at) {
      const float one = slice(at.i, 0);
      if (one > top[at] || one != one) top[at] = one;
    });
    const float most = largest(team, top);
    sweep<1>(team, a.statistics.slices, [&](const auto& at) {
      const float part = slice(at.i, 1);
      if (part != 0)
        total[at] = total[at] + part * exp(slice(at.i, 0) - most);  // a slice of padding has none
      hit[at] = hit[at] + slice(at.i, 2);
    });
    const float all = sum(team, total), target = sum(team, hit), norm = most + log_of(all);
    once(team, [&](const auto&) {
      a.largest[m] = most;
      a.norms[m] = norm;
      a.token_loss[m] = a.statistics.targets[m] < 0 ? 0.0f : norm - target;
    });
  }
};

TOROID_DEVICE float capped(const LogitRows& a, float z) {
  return a.softcap > 0 ? a.softcap * tanh(z / a.softcap) : z;
}

struct StatisticsArgs {
  LogitRows logits;
  float *largest, *sum, *target;
};

// A team takes a row, which is read once: each thread keeps its own largest logit and what it has added, and
// they meet at the end.
constexpr int kRowThreads = 512;
template <int kWidth>
struct Statistics {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const StatisticsArgs& args) const {
    const LogitRows& a = args.logits;
    const int64_t m = team.index();
    const float* const z = a.z + m * a.stride;
    const int valid = static_cast<int>(a.valid);
    constexpr float kLowest = -3.0e38f;  // finite, so that no difference is of two infinities
    Own<Team, float> top, total;
    each<1, 1>(team, kRowThreads, [&](const auto& at) { top[at] = kLowest; });
    sweep<kWidth>(team, valid, [&](const auto& at) {
      Floats<kWidth> v = load<kWidth>(z + at.i);
      float most = kLowest;
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        v.v[j] = at.i + j < valid ? capped(a, v.v[j]) : kLowest;
        most = most < v.v[j] ? v.v[j] : most;
      }
      if (most > top[at]) {
        total[at] = total[at] * exp(top[at] - most);
        top[at] = most;
      }
      float more = 0.0f;
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) more = more + (at.i + j < valid ? exp(v.v[j] - top[at]) : 0.0f);
      total[at] = total[at] + more;
    });
    const float most = largest(team, top);
    each<1, 1>(team, kRowThreads, [&](const auto& at) { total[at] = total[at] * exp(top[at] - most); });
    const float all = sum(team, total);
    once(team, [&](const auto&) {
      const int64_t place = a.targets[m] - a.first_token;
      args.largest[m] = valid > 0 ? most : minus_infinity();
      args.sum[m] = all;
      args.target[m] = place >= 0 && place < a.valid ? capped(a, z[place]) : 0.0f;
    });
  }
};

template <class T>
struct LogitGradient {
  struct Args {
    LogitRows logits;
    const float *norms, *scale;
    T* d_z;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static float begin(const Args& args) { return *args.scale; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& args, float scale, int64_t row, int64_t i) {
    const LogitRows& a = args.logits;
    const int64_t target = a.targets[row];
    Floats<kWidth> out = make<kWidth>([](int) { return 0.0f; });
    if (target >= 0) {
      const auto z = load<kWidth>(a.z + row * a.stride + i);
      const float norm = args.norms[row];
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if (i + j >= a.valid) continue;
        const float logit = capped(a, z.v[j]);
        float d = exp(logit - norm);
        if (i + j == target - a.first_token) d = d - 1.0f;
        d = d * scale;
        if (a.softcap > 0) {
          const float part = logit / a.softcap;
          d = d * fma(-part, part, 1.0f);
        }
        out.v[j] = d;
      }
    }
    store<kWidth>(args.d_z + row * a.stride + i, out);
  }
};

void loss_merge(const Call& call, const LaunchContext& context) {
  const Tensor& statistics = call[0];
  require(statistics.type == DType::f32, "the GPU merges statistics in f32");
  const int64_t M = statistics.columns();
  merge_statistics(
      stream_of(context),
      {statistics.as<float>(), M, M, static_cast<int>(statistics.rows() / 3), call[1].as<int32_t>()},
      call[2].as<float>(), call[3].as<float>(), call[3].as<float>() + M);
}

template <class T>
void gradient_as(cudaStream_t stream, const LogitRows& logits, const float* norms, const float* scale,
                 T* d_z) {
  launch_rows<LogitGradient<T>>(stream, {logits, norms, scale, d_z}, logits.rows, logits.columns,
                                logits.stride % kVector<Bf16> == 0 && aligned({logits.z, d_z}));
}

}  // namespace

void logit_statistics(cudaStream_t stream, const LogitRows& logits, float* largest, float* sum,
                      float* target) {
  require(logits.valid <= logits.columns && logits.columns < int64_t{1} << 31,
          "a row of logits has fewer than 2^31 elements, and valid ones are among them");
  const StatisticsArgs args{logits, largest, sum, target};
  const int64_t rows = logits.rows;
  // The last vector reads into the padding.
  const bool wide = aligned({logits.z}) && logits.stride % 4 == 0 && logits.columns % 4 == 0;
  wide ? launch<Statistics<4>, kRowThreads>(stream, rows, args)
       : launch<Statistics<1>, kRowThreads>(stream, rows, args);
}

void logit_gradient(cudaStream_t stream, const LogitRows& logits, const float* norms, const float* scale,
                    void* d_z, DType type) {
  require(type == DType::f32 || type == DType::bf16, "a gradient of logits is f32 or bf16");
  type == DType::f32 ? gradient_as(stream, logits, norms, scale, static_cast<float*>(d_z))
                     : gradient_as(stream, logits, norms, scale, static_cast<Bf16*>(d_z));
}

void merge_statistics(cudaStream_t stream, const SliceStatistics& statistics, float* token_loss,
                      float* largest, float* norms) {
  launch<Merge, kThreadsOfRow>(stream, statistics.tokens, MergeArgs{statistics, token_loss, largest, norms});
}

void add_loss_kernels(KernelRegistry& registry) {
  registry.add(op::loss_merge_kind, {loss_merge});
}

}  // namespace toroid::cuda
