// What is played is what happens: ranks whose operators sleep for as long as the player says they take, and
// whose messages take as long as on its links, need the time that it plays, with collectives of the model
// axis beside products and without. Seconds of sleep a step, so that what this machine adds is small.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/device/sim/chip.pb.h"
#include "core/op/kinds.h"
#include "simulate/play/simulate.h"
#include "tests/core/device/asynchronous_device.h"
#include "tests/train/certify/local_layout.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

using Clock = std::chrono::steady_clock;

const sim::Chip& slow_chip() {
  static const sim::Chip chip = [] {
    config::ChipConfig config;
    const std::string text =
        "name: 'slow' peak { type: 'bf16' flops_per_s: 0.75e9 } memory { bytes: 1000000000 bytes_per_s: 1e10 "
        "} "
        "torus { pod: 16 wrap: MULTIPLES wrap_size: 4 link_bytes_per_s: 1e6 hop_latency_s: 1e-4 } "
        "host { chips: 8 cards: 2 card_bytes_per_s: 1e9 pcie_bytes_per_s: 4e9 }";
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
    return sim::make_chip(config);
  }();
  return chip;
}

// Operators that follow each other end when they are due: that the thread wakes late does not add up.
void sleep_for_its_cost(const Call& call, const LaunchContext&) {
  constexpr std::chrono::microseconds kWakesWithin{500};
  thread_local Clock::time_point due;
  const Clock::time_point now = Clock::now();
  const Clock::time_point begin = now - due < kWakesWithin ? due : now;
  due = begin +
        std::chrono::duration_cast<Clock::duration>(sim::time_of(slow_chip(), call.kind->cost(call)).total);
  std::this_thread::sleep_until(due);
}

std::shared_ptr<const DeviceKernels> sleeping_kernels() {
  auto kernels = std::make_shared<DeviceKernels>();
  for (const OpKind* kind : op::all_kinds()) kernels->add(*kind, {sleep_for_its_cost, nullptr});
  kernels->traits.packs = false;
  return kernels;
}

// The shortest of a few steps, from when all ranks begin until all are done.
Seconds sleep_a_step(const config::RunConfig& run) {
  const mesh::Mesh mesh(run.mesh());
  const int ranks = mesh.world_size();
  LocalJob::Options options;
  options.reads_memory = options.relays = false;
  options.hosts = ranks;
  options.link_bytes_per_s = slow_chip().topology.bytes_per_s;
  options.link_latency = slow_chip().topology.hop_latency;
  LocalJob job(ranks, options);
  std::barrier meeting(ranks);
  std::vector<Seconds> steps;
  const std::string failures = testing::run_rank_threads(ranks, [&](int rank) {
    const Plugins plugins;
    testing::AsynchronousDevice::Options at_once;
    at_once.longest_delay = std::chrono::microseconds(0);
    at_once.bytes = int64_t{64} << 20;
    const Engine engine =
        make_engine(run, mesh, job.world(rank),
                    std::make_unique<testing::AsynchronousDevice>(sleeping_kernels(), at_once), plugins);
    engine.program->initialise(run.train().seed());
    const auto finish = [&] {
      for (size_t queue = 0; queue < kQueues; ++queue)
        engine.device->synchronize(engine.device->record(static_cast<Queue>(queue)), Seconds(60));
      meeting.arrive_and_wait();
    };
    for (int step = 0; step < 3; ++step) {
      engine.program->upload({}, 0);
      finish();
      const Stopwatch watch;
      engine.program->step();
      finish();
      if (rank == 0 && step > 0) steps.push_back(watch.elapsed());
    }
  });
  EXPECT_EQ(failures, "");
  return steps.empty() ? Seconds(0) : *std::min_element(steps.begin(), steps.end());
}

struct Case {
  int model = 1;
  std::string overlap;
};

class Slept : public ::testing::TestWithParam<Case> {};

TEST_P(Slept, takesThePlayedTime) {
  const config::RunConfig run =
      config::load_text(
          "model { d_model: 128 layers: 2 heads: 8 kv_heads: 8 head_dim: 16 ffn: 512 vocab: 256 }\n"
          "batch { tokens_per_sequence: 512 global_sequences: 1 }\n"
          "optim { adamw { weight_decay: 0.1 } schedule { constant { peak: 1e-2 } } }\n"
          "mesh { torus: " +
              std::to_string(GetParam().model) + " model: " + std::to_string(GetParam().model) +
              " overlap: " + GetParam().overlap +
              " }\n"
              "train { steps: 4 precision: BF16 remat: FULL }\n",
          "slept")
          .run;
  const Simulation simulation = simulate(run, slow_chip(), Plugins());
  const double played = simulation.played.step.count();
  EXPECT_GT(played, 0.3);
  EXPECT_GT(simulation.played.waited[static_cast<size_t>(Queue::model)].count(), 0.02 * played);
  const double slept = sleep_a_step(run).count();
  RecordProperty("played", std::to_string(played));
  RecordProperty("slept", std::to_string(slept));
  std::printf("model %d, overlap %s: played %.3f s, of which %.3f s waiting; slept %.3f s, %+.1f %%\n",
              GetParam().model, GetParam().overlap.c_str(), played,
              simulation.played.waited[static_cast<size_t>(Queue::model)].count(), slept,
              100 * (slept / played - 1));
  EXPECT_NEAR(slept, played, 0.05 * played);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Slept,
                         ::testing::Values(Case{2, "OFF"}, Case{2, "ALWAYS"}, Case{4, "OFF"},
                                           Case{4, "ALWAYS"}, Case{8, "OFF"}, Case{8, "ALWAYS"}),
                         [](const auto& c) {
                           return "model_" + std::to_string(c.param.model) + "_" + c.param.overlap;
                         });

}  // namespace
}  // namespace toroid::train
