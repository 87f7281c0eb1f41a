// A data axis by a model axis of ranks that are threads of this process, each with a CPU device of its own.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "parallel/zero/zero.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"

namespace toroid::testing {

struct LocalLayout {
  int data = 1, model = 1;
  int size() const { return data * model; }
  std::string text() const { return "data " + std::to_string(data) + ", model " + std::to_string(model); }
};

// One rank's groups on `device`; the model axis is the inner one.
class LocalGroups {
 public:
  LocalGroups(World& world, Device& device, LocalLayout layout, bool deterministic, Cut cut = Cut::never)
      : pod_(make_group_of_one()) {
    const int data = world.rank() / layout.model, model = world.rank() % layout.model;
    std::vector<int> along_data, along_model;
    for (int i = 0; i < layout.data; ++i) along_data.push_back(i * layout.model + model);
    for (int i = 0; i < layout.model; ++i) along_model.push_back(data * layout.model + i);
    GroupOptions options{.deterministic = deterministic, .method = {}};
    options.cut = cut;
    model_ = world.group(device, Queue::model, "model", along_model, {1, layout.model}, options);
    options.cut = Cut::never;
    gather_ = world.group(device, Queue::gather, "data", along_data, {1, layout.data}, options);
    reduce_ = world.group(device, Queue::reduce, "data", along_data, {1, layout.data}, options);
  }
  ZeroGroups groups() const { return {*gather_, *reduce_, *model_, *pod_}; }

 private:
  std::unique_ptr<Communicator> gather_, reduce_, model_, pod_;
};

// A rank's device; of a device whose library carries out collectives, the world is told so.
using MakeRankDevice = std::function<std::unique_ptr<Device>(World& world)>;
inline std::unique_ptr<Device> cpu_of_rank(World& world) {
  return std::make_unique<CpuDevice>(make_cpu_kernels(1), world.transfers());
}

// Calls work(rank, device, groups) on every rank; what a rank throws fails the test.
template <class Work>
void run_local_ranks(LocalLayout layout, bool deterministic, const Work& work, Cut cut = Cut::never,
                     const MakeRankDevice& make_device = cpu_of_rank) {
  LocalJob job(layout.size(), {});
  const std::string failures = run_rank_threads(layout.size(), [&](int rank) {
    const auto world = job.world(rank);
    const auto device = make_device(*world);
    const LocalGroups groups(*world, *device, layout, deterministic, cut);
    work(rank, *device, groups.groups());
  });
  EXPECT_EQ(failures, "") << layout.text();
}

}  // namespace toroid::testing
