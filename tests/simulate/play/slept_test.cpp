// What is played is what happens: ranks whose operators sleep for as long as the player says they take, whose
// messages take as long as on its links, and whose memory is an arena's, need the time that it plays, and
// wait as long for collectives: of the data axis for every depth of prefetch, and of the model axis beside
// products and without. Seconds of sleep a step, so that what this machine adds is small.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cmath>
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

sim::Chip chip_slower_by(double times) {
  config::ChipConfig config;
  const std::string text =
      "name: 'slow' peak { type: 'bf16' flops_per_s: 0.75e9 } memory { bytes: 1000000000 bytes_per_s: 1e10 } "
      "torus { pod: 16 pod: 16 wrap: MULTIPLES wrap_size: 4 link_bytes_per_s: 1e6 hop_latency_s: 1e-4 } "
      "host { chips: 8 cards: 2 card_bytes_per_s: 1e9 pcie_bytes_per_s: 4e9 }";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  sim::Chip chip = sim::make_chip(config);
  chip.peak_flops_per_s.at(DType::bf16) /= times;
  chip.memory_bytes_per_s /= times;
  chip.topology.bytes_per_s /= times;
  return chip;
}

// Of the test that runs; kernels are plain functions.
sim::Chip& slow_chip() {
  static sim::Chip chip = chip_slower_by(1);
  return chip;
}

Seconds cost_of(const Call& call) {
  return sim::time_of(slow_chip(), call.kind->name, call.kind->cost(call)).total;
}

// Operators that follow each other end when they are due: that the thread wakes late does not add up.
void sleep_for_its_cost(const Call& call, const LaunchContext&) {
  constexpr std::chrono::microseconds kWakesWithin{500};
  thread_local Clock::time_point due;
  const Clock::time_point now = Clock::now();
  const Clock::time_point begin = now - due < kWakesWithin ? due : now;
  due = begin + std::chrono::duration_cast<Clock::duration>(cost_of(call));
  std::this_thread::sleep_until(due);
}

std::shared_ptr<const DeviceKernels> sleeping_kernels() {
  auto kernels = std::make_shared<DeviceKernels>();
  for (const OpKind* kind : op::all_kinds()) kernels->add(*kind, {sleep_for_its_cost, nullptr});
  kernels->traits.packs = false;
  return kernels;
}

class SleepingDevice final : public testing::AsynchronousDevice {
 public:
  explicit SleepingDevice(const Options& options) : AsynchronousDevice(sleeping_kernels(), options) {}
  // That operators of the compute queue have slept, or are to sleep.
  Seconds worked{0};

 protected:
  void on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                 Event ticket) override {
    if (ticket.queue == Queue::compute) worked += cost_of(call);
    AsynchronousDevice::on_launch(call, kernel, context, ticket);
  }
};

struct StepTime {
  double step = 0, exposed = 0;  // seconds; exposed: during which rank 0 had no operator on its compute queue
};

// The shortest of a few steps, from when all ranks begin until all are done.
StepTime sleep_a_step(const config::RunConfig& run) {
  // With the wraps of the chip's torus, by which collectives choose how they go.
  const mesh::Mesh mesh = network_of(run, slow_chip()).mesh();
  const int ranks = mesh.world_size();
  LocalJob::Options options;
  options.reads_memory = options.relays = false;
  options.hosts = ranks;
  options.link_bytes_per_s = slow_chip().topology.bytes_per_s;
  options.link_latency = slow_chip().topology.hop_latency;
  LocalJob job(ranks, options);
  std::barrier meeting(ranks);
  StepTime least;
  const std::string failures = testing::run_rank_threads(ranks, [&](int rank) {
    const Plugins plugins;
    testing::AsynchronousDevice::Options at_once;
    at_once.longest_delay = std::chrono::microseconds(0);
    at_once.bytes = int64_t{64} << 20;
    auto sleeping = std::make_unique<SleepingDevice>(at_once);
    SleepingDevice& device = *sleeping;
    const Engine engine = make_engine(run, mesh, job.world(rank), std::move(sleeping), plugins);
    engine.program->initialise(run.train().seed());
    const auto finish = [&] {
      engine.device->finish(Seconds(60));
      meeting.arrive_and_wait();
    };
    for (int step = 0; step < 3; ++step) {
      engine.program->upload({}, 0);
      finish();
      device.worked = Seconds(0);
      const Stopwatch watch;
      engine.program->step();
      finish();
      const double seconds = watch.elapsed().count();
      if (rank == 0 && step > 0 && (least.step == 0 || seconds < least.step))
        least = {seconds, seconds - device.worked.count()};
    }
  });
  EXPECT_EQ(failures, "");
  return least;
}

StepTime play_a_step(const config::RunConfig& run) {
  const sim::Played played = simulate(run, slow_chip(), Plugins()).played;
  const Seconds worked = played.products + played.vector_bound + played.memory_bound;
  return {played.step.count(), (played.step - worked).count()};
}

bool agree(const StepTime& slept, const StepTime& played) {
  constexpr double kStep = 0.05, kExposed = 0.1;
  return std::abs(slept.step - played.step) <= kStep * played.step &&
         std::abs(slept.exposed - played.exposed) <= kExposed * played.exposed;
}

// What other programs take from this machine makes a measurement longer, so that one of a few that agrees is
// the answer; one that never does is wrong.
StepTime sleep_as_played(const config::RunConfig& run, const StepTime& played, const std::string& name) {
  constexpr int kTries = 3;
  StepTime slept;
  for (int tried = 0; tried < kTries; ++tried) {
    slept = sleep_a_step(run);
    std::printf(
        "%s: step %.3f s played, %.3f s slept, %+.1f %%; exposed %.3f s played, %.3f s slept, %+.1f %%\n",
        name.c_str(), played.step, slept.step, 100 * (slept.step / played.step - 1), played.exposed,
        slept.exposed, 100 * (slept.exposed / played.exposed - 1));
    if (agree(slept, played)) break;
  }
  EXPECT_TRUE(agree(slept, played)) << name;
  return slept;
}

config::RunConfig run_of(const std::string& mesh, int sequences, const std::vector<std::string>& sets = {}) {
  return config::load_text(
             "model { d_model: 128 layers: 2 heads: 8 kv_heads: 8 head_dim: 16 ffn: 512 vocab: 256 }\n"
             "batch { tokens_per_sequence: 512 global_sequences: " +
                 std::to_string(sequences) +
                 " }\n"
                 "optim { adamw { weight_decay: 0.1 } schedule { constant { peak: 1e-2 } } }\n"
                 "mesh { " +
                 mesh +
                 " }\n"
                 "train { steps: 4 precision: BF16 remat: FULL }\n",
             "slept", sets)
      .run;
}

// More ranks and rounds are more for this machine to do, of which a slower chip's step has a smaller share.
struct Case {
  int data = 1, model = 1;
  std::string overlap;
  double slower = 1;
};

class Slept : public ::testing::TestWithParam<Case> {};

TEST_P(Slept, TakesAndWaitsAsPlayed) {
  const auto& [data, model, overlap, slower] = GetParam();
  slow_chip() = chip_slower_by(slower);
  const std::string sizes = "data: " + std::to_string(data) + " model: " + std::to_string(model);
  const config::RunConfig run = run_of("torus: [" + std::to_string(data) + ", " + std::to_string(model) +
                                           "] " + sizes + " overlap: " + overlap,
                                       data);
  const StepTime played = play_a_step(run);
  EXPECT_GT(played.step, 0.3);
  EXPECT_GT(played.exposed, 0.02 * played.step) << "there is something to wait for";
  sleep_as_played(run, played, sizes + " overlap: " + overlap);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Slept,
                         ::testing::Values(Case{1, 2, "OFF"}, Case{1, 2, "ALWAYS"}, Case{1, 4, "OFF", 2},
                                           Case{1, 4, "ALWAYS", 2}, Case{1, 8, "OFF", 2},
                                           Case{1, 8, "ALWAYS", 4}, Case{2, 1, "OFF"}, Case{2, 2, "OFF"},
                                           Case{2, 4, "OFF", 2}),
                         [](const auto& c) {
                           return "data_" + std::to_string(c.param.data) + "_model_" +
                                  std::to_string(c.param.model) + "_" + c.param.overlap;
                         });

// Gathers of which a layer's is as long as its forward pass: with none ahead most are waited for.
TEST(SleptPrefetch, DepthsTakeAndWaitAsPlayed) {
  slow_chip() = chip_slower_by(2);
  std::vector<StepTime> played, slept;
  for (const char* prefetch : {"zero.prefetch=0", "zero.prefetch=1", "zero.prefetch=2"}) {
    const std::vector<std::string> sets = {"model.layers=4", "batch.tokens_per_sequence=256", prefetch};
    const config::RunConfig run = run_of("torus: [4] data: 4", 4, sets);
    played.push_back(play_a_step(run));
    slept.push_back(sleep_as_played(run, played.back(), prefetch));
  }
  for (const std::vector<StepTime>& steps : {played, slept}) {
    EXPECT_GT(steps[0].step, 1.1 * steps[1].step) << "gathers ahead are hidden";
    EXPECT_GT(steps[0].exposed, steps[1].exposed);
  }
}

}  // namespace
}  // namespace toroid::train
