// The scaling book's answers (jax-ml/scaling-book: sharding.md, training.md) as simulated times, within 5 %,
// with the nominal constants of configs/chips and the algorithms that `auto` takes. The book takes the share
// of an array that moves, (n - 1)/n, as 1: `whole` makes up for it. Where sharding becomes bound by
// communication is searched for with simulated times of one layer's collectives and products.
//
// Legend: D d_model, F ffn hidden, n ranks of an axis; a layer is two products, [tokens, D] x [D, F] and
// back.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "parallel/mesh/mesh.pb.h"
#include "simulate/play/chips.h"
#include "simulate/play/network.h"
#include "tests/simulate/play/message.h"

namespace toroid::sim {
namespace {

using schedule::Operation;

constexpr double kMicrosecond = 1e-6, kMillisecond = 1e-3;
constexpr int64_t kD = 8192;
constexpr double kBf16 = 2, kF32 = 4;  // bytes

// The book leaves out what collectives between pods take to begin.
Chip chip(const std::string& name) {
  Chip out = train::read_chip(name, "configs/any.textproto");
  out.host.message_latency = out.host.ring_step = Seconds(0);
  return out;
}

void expect_within(double found, double expected) {
  EXPECT_NEAR(found, expected, 0.05 * expected);
}

double whole(double seconds, int n) {
  return seconds * n / (n - 1);
}

// Chips of a pod and pods; the data axis takes the first dimensions.
class Pod {
 public:
  Pod(const Chip& chip, const std::vector<int>& torus, int model = 1, int pods = 1)
      : network_(mesh_of(torus, model, pods), chip) {}

  // Of an array of `bytes`, alone.
  double seconds(Operation operation, mesh::Axis axis, double bytes) {
    const schedule::GroupShape shape = network_.mesh().shape(axis);
    CollectiveInfo info;
    info.operation = schedule::name(operation);
    info.axis = mesh::name(axis);
    info.bytes = info.wire_bytes = static_cast<int64_t>(bytes);
    info.ranks = shape.size();
    info.method = schedule::name(schedule::automatic_algorithm(operation, shape, info.bytes, false));
    return network_.flow(info).alone().count();
  }
  double gather(mesh::Axis axis, double bytes) { return seconds(Operation::all_gather, axis, bytes); }
  double scatter(mesh::Axis axis, double bytes) { return seconds(Operation::reduce_scatter, axis, bytes); }
  double reduce(mesh::Axis axis, double bytes) { return seconds(Operation::all_reduce, axis, bytes); }
  const Network& network() const { return network_; }

 private:
  static mesh::Mesh mesh_of(const std::vector<int>& torus, int model, int pods) {
    config::MeshConfig config;
    int chips = 1;
    for (const int size : torus) {
      config.add_torus(size);
      chips *= size;
    }
    config.set_data(chips / model);
    config.set_model(model);
    config.set_pods(pods);
    return mesh::Mesh(config);
  }
  Network network_;
};

// Seconds of bf16 products; sizes are multiples of the array, so that the chip's peak is what they reach, but
// for the array's depth once a product, which the book's answers do not count.
double products(const Chip& chip, const std::vector<Product>& each) {
  Cost cost;
  cost.products = each;
  for (const Product& product : each) EXPECT_GT(chip.shape_efficiency(product), 0.99);
  return time_of(chip, "matmul", cost).total.count();
}
double forward(const Chip& chip, int64_t tokens, int64_t F) {
  return products(chip, {{tokens, F, kD, 1, DType::bf16}, {tokens, kD, F, 1, DType::bf16}});
}
// Gradients of the inputs, and of the weights.
double backward(const Chip& chip, int64_t tokens, int64_t F) {
  return forward(chip, tokens, F) +
         products(chip, {{kD, F, tokens, 1, DType::bf16}, {F, kD, tokens, 1, DType::bf16}});
}

// The size from which on `compute` takes longer than `communication`. Both are asked for multiples of `step`
// alone, and are straight in between.
double crossing(int64_t step, const std::function<double(int64_t)>& compute,
                const std::function<double(int64_t)>& communication) {
  const auto ahead = [&](int64_t steps) { return compute(steps * step) - communication(steps * step); };
  int64_t low = 1, high = 1 << 12;
  EXPECT_LT(ahead(low), 0);
  EXPECT_GT(ahead(high), 0);
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (ahead(middle) < 0 ? low : high) = middle;
  }
  const double below = ahead(low), above = ahead(high);
  return static_cast<double>(step) * (static_cast<double>(low) - below / (above - below));
}

// v5e 8x4, over the axis of 4, which does not wrap: three hops of a quarter, or three hops alone.
TEST(ScalingBook, AllGatherWithoutWrapOnV5e) {
  const double large = kBf16 * 2048 * 8192, small = kBf16 * 256 * 256;
  Pod pod(chip("v5e"), {8, 4}, 4);
  expect_within(pod.gather(mesh::Axis::model, large), 560 * kMicrosecond);
  expect_within(pod.gather(mesh::Axis::model, small), 3 * kMicrosecond);
  Chip wrapping = chip("v5e");
  wrapping.topology.wrap_size = 4;
  expect_within(whole(Pod(wrapping, {8, 4}, 4).gather(mesh::Axis::model, large), 4), 377 * kMicrosecond);
}

// v4 4x4x4, bf16[1024, 4096] sharded over X and Y: V/Y over one axis, V over two.
TEST(ScalingBook, AllGatherOnV4) {
  const Chip v4 = chip("v4");
  const double bytes = kBf16 * 1024 * 4096;
  expect_within(whole(Pod(v4, {4, 4, 4}, 16).gather(mesh::Axis::data, bytes / 4), 4), 23 * kMicrosecond);
  expect_within(whole(Pod(v4, {4, 4, 4}, 4).gather(mesh::Axis::data, bytes), 16), 46 * kMicrosecond);
}

// v5e 4x4, bf16[8, 128, 8192] from corner to corner: no wraps, so six hops, by two ports.
TEST(ScalingBook, AMessageOnV5e) {
  const Chip v5e = chip("v5e");
  const Pod pod(v5e, {4, 4});
  const Flow flow = message(pod.network(), v5e, 0, 15, kBf16 * 8 * 128 * 8192);
  expect_within(flow.latency.count(), 6 * kMicrosecond);
  expect_within(flow.transfer.count(), 188 * kMicrosecond);
  expect_within(flow.alone().count(), 188 * kMicrosecond);
}

// A small array is bound by hops: half way round each dimension.
TEST(ScalingBook, SmallArraysTakeHops) {
  Pod line(chip("v5e"), {16, 16}, 16), square(chip("v5e"), {16, 16}), cube(chip("v4"), {8, 16, 4});
  const double few = 1024;
  expect_within(line.gather(mesh::Axis::model, few), 8 * kMicrosecond);
  expect_within(line.scatter(mesh::Axis::model, few), 8 * kMicrosecond);
  expect_within(line.reduce(mesh::Axis::model, few), 16 * kMicrosecond);
  expect_within(square.gather(mesh::Axis::data, few), 16 * kMicrosecond);
  expect_within(cube.gather(mesh::Axis::data, few), (4 + 8 + 2) * kMicrosecond);
  // A hop is as long as 45 kB on a link: less on each link of a round is bound by hops, more by bytes.
  const double bytes = 16 * 45e3;
  expect_within(line.gather(mesh::Axis::model, bytes), 8 * kMicrosecond);
  expect_within(whole(line.gather(mesh::Axis::model, 4 * bytes), 16), 4 * 8 * kMicrosecond);
}

TEST(ScalingBook, AnAllReduceIsTwoAllGathers) {
  Pod pod(chip("v5e"), {16, 16}), line(chip("v5e"), {8, 8}, 8);
  for (const double bytes : {1e3, 1e6, 1e9}) {
    expect_within(pod.reduce(mesh::Axis::data, bytes), 2 * pod.gather(mesh::Axis::data, bytes));
    expect_within(line.reduce(mesh::Axis::model, bytes), 2 * line.gather(mesh::Axis::model, bytes));
  }
}

// V / (W * axes).
TEST(ScalingBook, EveryAxisAddsItsBandwidth) {
  const double bytes = 1e10;
  const auto bandwidth = [&](const Chip& of, const std::vector<int>& torus, int model) {
    int n = 1;
    for (const int size : torus) n *= size;
    n /= model;
    const double both_ways = 2 * of.topology.bytes_per_s;
    return bytes / whole(Pod(of, torus, model).gather(mesh::Axis::data, bytes), n) / both_ways;
  };
  expect_within(bandwidth(chip("v4"), {16, 16, 16}, 256), 1);
  expect_within(bandwidth(chip("v4"), {16, 16, 16}, 16), 2);
  expect_within(bandwidth(chip("v4"), {16, 16, 16}, 1), 3);
  expect_within(bandwidth(chip("v4"), {4, 4, 4}, 1), 3);
  expect_within(bandwidth(chip("v5p"), {16, 20, 28}, 1), 3);
  expect_within(bandwidth(chip("v5e"), {16, 16}, 16), 1);
  expect_within(bandwidth(chip("v5e"), {16, 16}, 1), 2);
}

// Data parallel with sharded weights (ZeRO-3) is bound below alpha / axes tokens a chip, alpha = C / W.
// Weights are gathered before both passes, and gradients scattered after the second.
TEST(ScalingBook, TokensAChipBelowWhichShardedDataIsBound) {
  const int64_t F = 4 * kD;
  const double weights = kBf16 * kD * F;
  const auto bound = [&](const Chip& of, const std::vector<int>& torus, int model) {
    Pod pod(of, torus, model);
    const int n = pod.network().mesh().data();
    const double communication =
        2 * (2 * pod.gather(mesh::Axis::data, weights) + pod.scatter(mesh::Axis::data, weights));
    return crossing(
        128, [&](int64_t tokens) { return forward(of, tokens, F) + backward(of, tokens, F); },
        [&](int64_t) { return whole(communication, n); });
  };
  expect_within(bound(chip("v5e"), {16, 16}, 16), 2189);
  expect_within(bound(chip("v5e"), {16, 16}, 1), 1094);
  expect_within(bound(chip("v5p"), {16, 16, 16}, 256), 2550);
  expect_within(bound(chip("v5p"), {16, 16, 16}, 16), 1275);
  expect_within(bound(chip("v5p"), {16, 16, 16}, 1), 850);
}

// Model sharding over Y chips is bound where Y > axes * F / alpha: inputs are gathered before the first
// product, and sums scattered after the second.
TEST(ScalingBook, FfnBelowWhichShardedModelsAreBound) {
  const Chip v5e = chip("v5e");
  const int64_t tokens = 4096;
  const double inputs = kBf16 * tokens * kD, alpha = 1.97e14 / 9e10;
  const auto communication = [&](int Y) {
    Pod pod(v5e, {16, 16}, Y);
    return whole(pod.gather(mesh::Axis::model, inputs) + pod.scatter(mesh::Axis::model, inputs), Y);
  };
  for (const auto& [Y, axes] : {std::pair(16, 1), std::pair(256, 2)}) {
    const double least = crossing(
        int64_t{128} * Y, [&](int64_t F) { return forward(v5e, tokens, F / Y); },
        [&](int64_t) { return communication(Y); });
    expect_within(least, Y * alpha / axes);
  }
  // Gemma 7B on one axis could be split 22 ways: 16 fit.
  EXPECT_GT(forward(v5e, tokens, 49152 / 16), communication(16));
}

// Data parallel between pods: a pod's tokens hide the reduction of its gradients, 8DF / (M W_dcn) on M chips,
// behind the backward pass, 8BDF / (N C), from C / W_dcn on.
TEST(ScalingBook, TokensAPodBelowWhichPodsAreBound) {
  const Chip v5e = chip("v5e");
  const int64_t F = 4 * kD, chips = 256;
  for (const int pods : {2, 16, 199}) {
    Pod pod(v5e, {16, 16}, 1, pods);
    const double shard = kBf16 * 2 * kD * F / chips;
    const double communication = whole(pod.reduce(mesh::Axis::pod, shard), pods);
    const double a_chip = crossing(
        128, [&](int64_t tokens) { return backward(v5e, tokens, F); },
        [&](int64_t) { return communication; });
    expect_within(a_chip * chips, 63040);
  }
}

// Gemma 2B and 7B as their report lays them out: fp32 gradients, sharded over a pod, by a ring of pods; and
// bf16 weights gathered over both axes.
TEST(ScalingBook, GemmaOnV5ePods) {
  const Chip v5e = chip("v5e");
  const double small = 1'981'884'416.0 + 524'550'144, large = 7'751'248'896.0 + 786'825'216;
  Pod two(v5e, {16, 16}, 1, 2), sixteen(v5e, {16, 16}, 1, 16);
  expect_within(two.reduce(mesh::Axis::pod, kF32 * small / 256), 12.5 * kMillisecond);
  expect_within(sixteen.reduce(mesh::Axis::pod, kF32 * large / 256), 80 * kMillisecond);
  expect_within(two.gather(mesh::Axis::data, kBf16 * small), 28 * kMillisecond);
  expect_within(two.gather(mesh::Axis::data, kBf16 * large), 95 * kMillisecond);
}

}  // namespace
}  // namespace toroid::sim
