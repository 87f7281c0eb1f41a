// Bytes per second of each memory-bound kernel at the widths of B1 (configs/bench_b1), beside the triad's.
// Operands are taken in turn from sets that together exceed the last cache, so that they come from memory;
// the triad is measured again before each kernel and calls are short, since the machine may be shared.
//
//   vector_bandwidth [threads] [seconds per kernel] [name]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/device/cpu/bandwidth.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/activation.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/norm.h"
#include "core/op/reduce.h"
#include "core/op/rope.h"
#include "core/op/update.h"
#include "train/engine/plugins.h"

namespace toroid {
namespace {

constexpr int64_t M = 512, D = 768, F = 3072, H = 128, N = 6, K = 1, V = 32768;
constexpr int64_t kUnit = int64_t{1} << 20;    // elements of a flat buffer
constexpr int64_t kCold = int64_t{256} << 20;  // bytes of all sets of one kernel

// Operands that live as long as the bench of their kernel.
class Operands {
 public:
  explicit Operands(Device& device) : device_(device) {}

  Tensor floats(DType type, Shape shape) {
    const Tensor tensor = make(type, shape);
    device_.launch(op::init_normal(tensor, {random_key(1, Purpose::synthetic, "bench"), 0, 0.5}));
    return tensor;
  }
  Tensor positive(DType type, Shape shape) {
    const Tensor tensor = make(type, shape);
    device_.launch(op::fill(tensor, {0.25}));
    return tensor;
  }
  Tensor integers(int64_t count, int64_t modulus) {
    const Tensor tensor = make(DType::i32, {count});
    for (int64_t i = 0; i < count; ++i) {
      tensor.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % modulus);
    }
    return tensor;
  }

 private:
  Tensor make(DType type, Shape shape) {
    arrays_.push_back(device_.array(type, shape, "bench"));
    return arrays_.back().tensor;
  }

  Device& device_;
  std::deque<Array> arrays_;
};

struct Bench {
  const char* name;
  std::function<Call(Operands&)> make;
};

std::vector<Bench> benches() {
  constexpr DType bf16 = DType::bf16, f32 = DType::f32;
  const op::RopeSpec heads{.heads = N, .kv_heads = K, .head_dim = H};
  constexpr int64_t kQkv = (N + 2 * K) * H;
  const auto state = [](Operands& o) { return o.positive(f32, {op::kStateSize}); };
  const auto control = [](Operands& o) { return o.positive(f32, {op::kControlSize}); };
  return {
      {"rms_norm",
       [](Operands& o) {
         return op::rms_norm(o.floats(bf16, {M, D}), o.floats(bf16, {D}), o.floats(bf16, {M, D}),
                             o.floats(f32, {M}), {});
       }},
      {"residual_norm",
       [](Operands& o) {
         return op::residual_norm(o.floats(bf16, {M, D}), o.floats(bf16, {M, D}), {}, o.floats(bf16, {D}),
                                  o.floats(bf16, {M, D}), o.floats(bf16, {M, D}), o.floats(f32, {M}), {}, {});
       }},
      {"rms_norm_grad",
       [](Operands& o) {
         return op::rms_norm_grad(o.floats(bf16, {M, D}), o.floats(bf16, {M, D}), o.floats(bf16, {D}),
                                  o.positive(f32, {M}), o.floats(bf16, {M, D}), o.floats(bf16, {M, D}),
                                  o.floats(f32, {D}), {}, {});
       }},
      {"activate",
       [](Operands& o) {
         return op::activate(o.floats(bf16, {M, 2 * F}), o.floats(bf16, {M, F}), {});
       }},
      {"activate f32",
       [](Operands& o) {
         return op::activate(o.floats(f32, {M, 2 * F}), o.floats(f32, {M, F}), {});
       }},
      {"activate_grad",
       [](Operands& o) {
         return op::activate_grad(o.floats(bf16, {M, F}), o.floats(bf16, {M, 2 * F}),
                                  o.floats(bf16, {M, 2 * F}), {}, {});
       }},
      {"activate_grad again",
       [](Operands& o) {
         return op::activate_grad(o.floats(bf16, {M, F}), o.floats(bf16, {M, 2 * F}),
                                  o.floats(bf16, {M, 2 * F}), o.floats(bf16, {M, F}), {});
       }},
      {"rope",
       [=](Operands& o) {
         const Tensor qkv = o.floats(bf16, {M, kQkv});
         return op::rope(qkv, o.floats(f32, {M, H}), {}, {}, qkv, {}, heads);
       }},
      {"rope_grad",
       [=](Operands& o) {
         const Tensor d = o.floats(bf16, {M, kQkv});
         return op::rope_grad(d, o.floats(f32, {M, H}), {}, {}, {}, {}, d, {}, {}, heads);
       }},
      {"rope_table",
       [](Operands& o) {
         return op::rope_table(o.integers(M, 1024), o.floats(f32, {M, H}), {});
       }},
      {"embed",
       [](Operands& o) {
         return op::embed(o.integers(M, V), o.floats(bf16, {V, D}), o.floats(bf16, {M, D}), {.scale = 27.75});
       }},
      {"embed_grad",
       [](Operands& o) {
         return op::embed_grad(o.integers(M, V), o.floats(bf16, {M, D}), o.floats(f32, {V, D}),
                               {.scale = 27.75});
       }},
      {"adamw",
       [=](Operands& o) {
         return op::adamw(o.floats(f32, {kUnit}), state(o), control(o), o.floats(f32, {kUnit}),
                          o.floats(f32, {kUnit}), o.positive(f32, {kUnit}), {});
       }},
      {"adamw bf16 moments",
       [=](Operands& o) {
         return op::adamw(o.floats(f32, {kUnit}), state(o), control(o), o.floats(f32, {kUnit}),
                          o.floats(bf16, {kUnit}), o.positive(bf16, {kUnit}), {});
       }},
      {"ema",
       [=](Operands& o) { return op::ema(o.floats(f32, {kUnit}), control(o), o.floats(f32, {kUnit}), {}); }},
      {"sum_squares",
       [](Operands& o) {
         return op::sum_squares(o.floats(f32, {kUnit}), o.floats(f32, {kUnit / op::kReduceBlock}));
       }},
      {"add f32", [](Operands& o) { return op::add(o.floats(f32, {kUnit}), o.floats(f32, {kUnit})); }},
      {"cast to bf16", [](Operands& o) { return op::cast(o.floats(f32, {kUnit}), o.floats(bf16, {kUnit})); }},
      {"fill", [](Operands& o) { return op::fill(o.floats(f32, {kUnit}), {0}); }},
      {"init_normal",
       [](Operands& o) {
         return op::init_normal(o.floats(f32, {kUnit}), {random_key(1, Purpose::initialise, "w"), 0, 0.02});
       }},
  };
}

void run(const Bench& bench, int threads, double seconds) {
  auto kernels = std::make_shared<DeviceKernels>();
  cpu::add_vector_kernels(*kernels);
  kernels->traits.threads = threads;
  const auto device = train::Plugins().cpu().make(kernels, nullptr);
  Operands operands(*device);
  std::vector<Call> calls{bench.make(operands)};
  const Cost cost = calls.front().kind->cost(calls.front());
  const int64_t bytes = cost.bytes_read + cost.bytes_written;
  while (static_cast<int64_t>(calls.size()) * bytes < kCold) calls.push_back(bench.make(operands));
  const double triad = measure_triad(threads, int64_t{32} << 20, 40);
  double best = std::numeric_limits<double>::max();
  const Stopwatch all;
  for (size_t i = 0; i < 2 * calls.size() || all.elapsed().count() < seconds; ++i) {
    const Stopwatch watch;
    device->launch(calls[i % calls.size()]);
    best = std::min(best, watch.elapsed().count());
  }
  const double rate = static_cast<double>(bytes) / best;
  std::printf("%-22s %8.3f ms  %7.2f MB  %6.2f GB/s  triad %6.2f GB/s  %5.2f\n", bench.name, best * 1e3,
              static_cast<double>(bytes) / 1e6, rate / 1e9, triad / 1e9, rate / triad);
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.5;
  const std::string only = argc > 3 ? argv[3] : "";
  for (const toroid::Bench& bench : toroid::benches()) {
    if (only.empty() || only == bench.name) toroid::run(bench, threads, seconds);
  }
}
