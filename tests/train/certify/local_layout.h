// Trains under a layout with ranks that are threads of this process.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"
#include "train/certify/certificate.h"
#include "train/config/load.h"

namespace toroid::train {

inline config::RunConfig small_config(const std::string& model, const std::vector<std::string>& sets = {}) {
  return config::load_text("model { d_model: 32 layers: 2 head_dim: 8 ffn: 48 vocab: 90 " + model +
                               " }\n"
                               "batch { tokens_per_sequence: 20 global_sequences: 4 }\n"
                               "optim { adamw { weight_decay: 0.1 } schedule { constant { peak: 1e-2 } } }\n"
                               "train { steps: 4 seed: 5 precision: BF16 deterministic: true }\n",
                           "small", sets)
      .run;
}

// A rank's own CPU, of one thread.
inline std::unique_ptr<CpuDevice> local_device(const Plugins& plugins) {
  return std::make_unique<CpuDevice>(plugins.cpu().kernels(1, cpu::fastest_products()),
                                     std::make_shared<cpu::TransferThread>());
}

// The run of `layout` as its first rank saw it, each rank on the device that is made for it. What one rank
// throws is thrown once all have ended.
inline LayoutRun run_locally(
    config::RunConfig run, const Layout& layout, const AdaptGroups& adapt = {},
    const std::function<std::unique_ptr<Device>(World& world)>& make_device =
        [](World&) { return local_device(Plugins()); },
    const Plugins& plugins = Plugins()) {
  layout.apply(run);
  config::validate(run);
  LocalJob job(layout.ranks(), {});
  std::vector<LayoutRun> found(static_cast<size_t>(layout.ranks()));
  const std::string failures = testing::run_rank_threads(layout.ranks(), [&](int rank) {
    auto world = job.world(rank);
    auto device = make_device(*world);
    found[static_cast<size_t>(rank)] = run_layout(run, std::move(world), std::move(device), plugins, adapt);
  });
  if (!failures.empty()) throw std::runtime_error(failures);
  found[0].layout = layout.text();
  return found[0];
}

}  // namespace toroid::train
