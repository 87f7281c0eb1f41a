// From a checked config to the objects of a run: the one place that knows both.
#pragma once

#include <functional>
#include <memory>

#include "configs/run.pb.h"
#include "core/device/device.h"
#include "data/batch/batch.h"
#include "train/engine/plugins.h"
#include "train/ranks/meeting.h"
#include "train/ranks/rank_layout.h"
#include "train/step/step_program.h"

namespace toroid::train {

// Threads of the compute team: train.threads, else OMP_NUM_THREADS, else this rank's share of the cores that
// the `host_ranks` ranks of this host may use.
int compute_threads(const config::TrainConfig& train, size_t host_ranks = 1);

StepOptions step_options(const config::RunConfig& run);

// A rank's part of a run; each outlives what comes after it.
struct Engine {
  std::unique_ptr<World> world;
  std::unique_ptr<Device> device;
  std::unique_ptr<const RankLayout> layout;
  std::vector<std::string> hosts;  // of the ranks, by name
  AxisGroups groups;
  std::unique_ptr<StepProgram> program;
};

// Stands in front of a rank's groups: for tests that spoil a collective.
using AdaptGroups = std::function<AxisGroups(AxisGroups groups, Device& device)>;

// A program on `device` for this config, as one rank of `world`. UserError where the world is not the mesh's
// size, or where the device lacks kernels of primitive kinds, all of which are named.
Engine make_engine(const config::RunConfig& run, std::unique_ptr<World> world, std::unique_ptr<Device> device,
                   const Plugins& plugins, const AdaptGroups& adapt = {});
// The same on a mesh that knows which of its dimensions wrap.
Engine make_engine(const config::RunConfig& run, const mesh::Mesh& mesh, std::unique_ptr<World> world,
                   std::unique_ptr<Device> device, const Plugins& plugins, const AdaptGroups& adapt = {});

// This process as one of the ranks that were launched, and its device.
struct RunRank {
  std::unique_ptr<World> world;
  std::unique_ptr<Device> device;
  Bf16Products bf16_products = Bf16Products::widened;  // that all ranks agreed on
};
RunRank leave_as_rank(Meeting meeting, const config::RunConfig& run, Bf16Products products,
                      const Plugins& plugins);
// Meets the ranks that were launched, and goes on with them where they have the same config, program and
// `more`. RanksDisagree where not.
RunRank join_ranks(const config::RunConfig& run, const Plugins& plugins,
                   const std::vector<RunIdentity::Part>& more = {});

// Random tokens, and random numbers for what an objective asks of each: the batch of `step` of a run that
// takes the config's batch at every step.
Batch synthetic_batch(const config::RunConfig& run, int64_t step,
                      const std::vector<std::string>& operands = {});

HostBatch host_batch(const Batch& batch);

}  // namespace toroid::train
