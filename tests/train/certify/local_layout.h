// Trains under a layout with ranks that are threads of this process.
#pragma once

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/local/local_world.h"
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

// The run of `layout` as its first rank saw it. What one rank throws is thrown once all have ended.
inline LayoutRun run_locally(config::RunConfig run, const Layout& layout, const AdaptGroups& adapt = {}) {
  layout.apply(run);
  config::validate(run);
  LocalJob job(layout.ranks(), {});
  std::vector<LayoutRun> found(static_cast<size_t>(layout.ranks()));
  std::vector<std::string> failures(found.size());
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    ranks.emplace_back([&, rank] {
      const Plugins plugins;
      try {
        auto device =
            std::make_unique<CpuDevice>(plugins.cpu_kernels(1), std::make_shared<cpu::TransferThread>());
        found[static_cast<size_t>(rank)] =
            run_layout(run, job.world(rank), std::move(device), plugins, adapt);
      } catch (const std::exception& error) {
        failures[static_cast<size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const std::string& failure : failures) {
    if (!failure.empty()) throw std::runtime_error(failure);
  }
  found[0].layout = layout.text();
  return found[0];
}

}  // namespace toroid::train
