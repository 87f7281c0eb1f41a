// Pods as threads of this process, one chip each, against sums and steps that the test makes by itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/op/update.h"
#include "core/op/wire.h"
#include "parallel/pathways/outer_step.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"

namespace toroid::pathways {
namespace {

using Floats = std::vector<float>;

// Small ones that travel together, one that travels alone, and a small one left over.
const std::vector<Shard> kShards = {
    {"embedding", 4096}, {"layer.0", 3 * 4096}, {"layer.1", 80 * 4096}, {"head", 4096}};

Floats values_of(int pod, size_t shard, int round) {
  std::mt19937 random(static_cast<uint32_t>(1000 * round + 10 * pod) + static_cast<uint32_t>(shard));
  std::normal_distribution<float> normal(0.1f, 1.0f);
  Floats out(static_cast<size_t>(kShards[shard].elements));
  for (float& value : out) value = normal(random);
  return out;
}

Floats read(Device& device, const Tensor& tensor) {
  Floats out(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

Array array_of(Device& device, const Floats& values) {
  Array out = device.array(DType::f32, {static_cast<int64_t>(values.size())}, "test");
  device.write(out.tensor, std::as_bytes(std::span(values)));
  return out;
}

// work(pod, device, communicator) on every pod.
template <class Work>
void run_pods(int pods, const Work& work) {
  LocalJob job(pods, {});
  std::vector<int> everybody;
  for (int pod = 0; pod < pods; ++pod) everybody.push_back(pod);
  const std::string failures = testing::run_rank_threads(pods, [&](int pod) {
    const auto world = job.world(pod);
    CpuDevice device(make_cpu_kernels(1), std::make_shared<cpu::TransferThread>());
    const auto group = world->group(device, Queue::pod, "pod", everybody, {1, pods});
    work(pod, device, *group);
  });
  EXPECT_EQ(failures, "");
}

// How far one rounding may be from a value of a block whose largest is `largest`.
double quantum(PodWire wire, double largest) {
  return wire == PodWire::int8 ? largest / 127 * (1 + 0x1p-7) / 2 : largest * 0x1p-8;
}

class Wires : public ::testing::TestWithParam<std::tuple<PodWire, int>> {};

TEST_P(Wires, WhatIsSentAddsUpToWhatWasMeant) {
  const PodWire asked = std::get<0>(GetParam());
  const int pods = std::get<1>(GetParam());
  constexpr int kRounds = 6;
  std::vector<std::vector<Floats>> totals(static_cast<size_t>(pods));  // by pod and shard, of all rounds
  run_pods(pods, [&](int pod, Device& device, Communicator& group) {
    PodReduce reduce(device, group, asked, kShards, "gradients");
    reduce.clear();
    std::vector<Floats>& total = totals[static_cast<size_t>(pod)];
    total.resize(kShards.size());
    for (int round = 0; round < kRounds; ++round) {
      for (size_t s = 0; s < kShards.size(); ++s) {
        reduce.start(s, array_of(device, values_of(pod, s, round)), Phase::backward);
      }
      for (size_t s = 0; s < kShards.size(); ++s) {
        const Floats sum = read(device, reduce.finish(s).tensor);
        Floats& so_far = total[s];
        so_far.resize(sum.size());
        for (size_t i = 0; i < sum.size(); ++i) so_far[i] += sum[i];
      }
      reduce.keep_rest();
    }
  });
  for (size_t s = 0; s < kShards.size(); ++s) {
    for (const auto& pod : totals) EXPECT_EQ(pod[s], totals[0][s]) << "twins have the same bits";
    double worst = 0, largest = 0, plain = 0;
    std::vector<double> meant(totals[0][s].size());
    for (int round = 0; round < kRounds; ++round) {
      for (int pod = 0; pod < pods; ++pod) {
        const Floats values = values_of(pod, s, round);
        for (size_t i = 0; i < values.size(); ++i) {
          meant[i] += static_cast<double>(values[i]);
          largest = std::max(largest, std::abs(static_cast<double>(values[i])));
        }
      }
    }
    for (size_t i = 0; i < meant.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(totals[0][s][i]) - meant[i]));
      plain = std::max(plain, std::abs(meant[i]));
    }
    // One quantum of each pod, whatever the number of rounds; what is carried makes a block's largest value
    // larger by a quantum at most. Alone nothing travels.
    const double rounding = kRounds * pods * 0x1p-23 * plain;
    const bool rounds = asked != PodWire::fp32 && pods > 1;
    const double bound = rounds ? pods * quantum(asked, largest + quantum(asked, 1.1 * largest)) : 0;
    EXPECT_LE(worst, bound + rounding) << kShards[s].unit;
    if (rounds) {
      EXPECT_GT(worst, 10 * rounding) << "something was rounded";
    }
  }
}

std::string name_of_case(const ::testing::TestParamInfo<std::tuple<PodWire, int>>& one) {
  static constexpr const char* kNames[] = {"fp32", "bf16", "int8"};
  return std::string(kNames[static_cast<size_t>(std::get<0>(one.param))]) + "_" +
         std::to_string(std::get<1>(one.param));
}

INSTANTIATE_TEST_SUITE_P(Pods, Wires,
                         ::testing::Combine(::testing::Values(PodWire::fp32, PodWire::bf16, PodWire::int8),
                                            ::testing::Values(1, 2, 4)),
                         name_of_case);

// A skipped step's gradients are lost, and so is what their transmission rounded away.
TEST(PodReduce, ASkippedStepLeavesTheResidual) {
  run_pods(2, [&](int pod, Device& device, Communicator& group) {
    PodReduce reduce(device, group, PodWire::int8, kShards, "gradients");
    reduce.clear();
    const auto step = [&](int round, bool apply, float spoil) {
      for (size_t s = 0; s < kShards.size(); ++s) {
        Floats values = values_of(pod, s, round);
        if (pod == 1) values[7] *= spoil;
        reduce.start(s, array_of(device, values), Phase::backward);
      }
      bool finite = true;
      for (size_t s = 0; s < kShards.size(); ++s) {
        for (const float value : read(device, reduce.finish(s).tensor)) {
          finite = finite && std::isfinite(value);
        }
      }
      Floats control(op::kControlSize);
      control[op::apply] = apply ? 1.0f : 0.0f;
      reduce.keep_rest(array_of(device, control).tensor);
      return finite;
    };
    EXPECT_TRUE(step(0, true, 1));
    const Floats before = read(device, reduce.residual(2).tensor);
    EXPECT_GT(std::abs(before[7]), 0);
    EXPECT_FALSE(step(1, false, INFINITY)) << "every twin sees what one sent";
    EXPECT_EQ(read(device, reduce.residual(2).tensor), before);
    EXPECT_TRUE(step(2, true, 1));
    EXPECT_NE(read(device, reduce.residual(2).tensor), before);
  });
}

class Outer : public ::testing::TestWithParam<int> {};

// Against Nesterov's step in double: inner steps are random walks.
TEST_P(Outer, IsNesterovsStepOnTheMeanOfTheWalks) {
  const int pods = GetParam();
  constexpr int kSteps = 9, kEvery = 3;
  Options options;
  options.outer = true;
  options.every_steps = kEvery;
  options.learning_rate = 0.6;
  options.momentum = 0.8;
  std::vector<double> shared(static_cast<size_t>(kShards[0].elements)), momentum(shared.size());
  std::vector<std::vector<double>> walks(static_cast<size_t>(pods), shared);
  for (int step = 0; step < kSteps; ++step) {
    for (int pod = 0; pod < pods; ++pod) {
      const Floats change = values_of(pod, 0, step);
      auto& walk = walks[static_cast<size_t>(pod)];
      for (size_t i = 0; i < walk.size(); ++i) walk[i] += static_cast<double>(change[i]);
    }
    if ((step + 1) % kEvery != 0) continue;
    for (size_t i = 0; i < shared.size(); ++i) {
      double mean = 0;
      for (const auto& walk : walks) mean += (shared[i] - walk[i]) / pods;
      momentum[i] = 0.8 * momentum[i] + mean;
      shared[i] -= 0.6 * (mean + 0.8 * momentum[i]);
      for (auto& walk : walks) walk[i] = shared[i];
    }
  }
  std::vector<Floats> found(static_cast<size_t>(pods));
  run_pods(pods, [&](int pod, Device& device, Communicator& group) {
    OuterStep outer(device, group, options, {kShards[0]});
    Floats master(shared.size());
    const Array array = array_of(device, master);
    const std::vector<Tensor> masters{array.tensor};
    outer.begin(masters);
    for (int step = 0; step < kSteps; ++step) {
      master = read(device, array.tensor);
      const Floats change = values_of(pod, 0, step);
      for (size_t i = 0; i < master.size(); ++i) master[i] += change[i];
      device.write(array.tensor, std::as_bytes(std::span(master)));
      const bool due = outer.due();
      EXPECT_EQ(due, (step + 1) % kEvery == 0);
      if (due) outer.step(masters);
      EXPECT_EQ(outer.apart(), (step + 1) % kEvery);
    }
    found[static_cast<size_t>(pod)] = read(device, array.tensor);
    EXPECT_EQ(found[static_cast<size_t>(pod)], read(device, outer.shared(0).tensor));
  });
  for (const Floats& pod : found) EXPECT_EQ(pod, found[0]) << "twins have the same bits";
  for (size_t i = 0; i < shared.size(); ++i) ASSERT_NEAR(static_cast<double>(found[0][i]), shared[i], 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Pods, Outer, ::testing::Values(1, 2, 4));

}  // namespace
}  // namespace toroid::pathways
