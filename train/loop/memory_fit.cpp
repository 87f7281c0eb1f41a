#include "train/loop/memory_fit.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/report/memory_report.h"

namespace toroid::train {

using config::TrainConfig;

std::vector<MemoryChange> memory_changes(const config::RunConfig& run) {
  std::vector<MemoryChange> out;
  // A sequence at a time is as fast where it is long, and memory goes with their number.
  if (run.batch().sequences_per_replica() > 1 && !run.train().deterministic()) {
    out.push_back({"batch.sequences_per_replica=1",
                   [](config::RunConfig& to) { to.mutable_batch()->set_sequences_per_replica(1); }});
  }
  if (run.mesh().data() > 1 && run.zero().stage() < 3) {
    out.push_back({"zero.stage=3", [](config::RunConfig& to) { to.mutable_zero()->set_stage(3); }});
  }
  if (run.train().keep_gathered()) {
    out.push_back({"train.keep_gathered=false",
                   [](config::RunConfig& to) { to.mutable_train()->set_keep_gathered(false); }});
  }
  for (const auto remat : {TrainConfig::CHEAP, TrainConfig::FULL}) {
    if (run.train().remat() >= remat) continue;
    out.push_back({"train.remat=" + TrainConfig::Remat_Name(remat),
                   [remat](config::RunConfig& to) { to.mutable_train()->set_remat(remat); }});
  }
  constexpr int64_t kFewTokens = 1024;
  const int64_t block = run.train().loss().block_tokens();
  if (block == 0 || block > kFewTokens) {
    out.push_back({"train.loss.block_tokens=" + std::to_string(kFewTokens), [](config::RunConfig& to) {
                     to.mutable_train()->mutable_loss()->set_block_tokens(kFewTokens);
                   }});
  }
  return out;
}

std::optional<MemoryRemedy> memory_remedy(
    const config::RunConfig& run, int64_t bytes,
    const std::function<int64_t(const config::RunConfig& run)>& bytes_of) {
  const std::vector<MemoryChange> changes = memory_changes(run);
  const auto with = [&](size_t first, size_t last) {
    config::RunConfig changed = run;
    MemoryRemedy out;
    for (size_t i = first; i < last; ++i) {
      // A policy of recomputation takes the place of the one before it.
      const bool replaced = i + 1 < last && changes[i].text == "train.remat=CHEAP";
      changes[i].apply(changed);
      if (!replaced) out.text += (out.text.empty() ? "" : " and ") + changes[i].text;
    }
    out.bytes = bytes_of(changed);
    return out;
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    if (const MemoryRemedy one = with(i, i + 1); one.bytes <= bytes) return one;
  }
  for (size_t last = 2; last <= changes.size(); ++last) {
    if (const MemoryRemedy some = with(0, last); some.bytes <= bytes) return some;
  }
  return std::nullopt;
}

void check_memory(const config::RunConfig& run, World& world, const Device& device, const Plugins& plugins) {
  const int64_t bytes = device.memory_bytes();
  if (bytes == 0) return;
  const int threads = device.traits().threads;
  const MemoryPrediction needed = predict_memory(run, world, threads, plugins);
  if (needed.placed_bytes <= bytes) return;
  const auto remedy = memory_remedy(run, bytes, [&](const config::RunConfig& changed) {
    return predict_memory(changed, world, threads, plugins).placed_bytes;
  });
  throw UserError("a step takes " + human_bytes(needed.placed_bytes) + " of the device's memory, which has " +
                  human_bytes(bytes) + "; the largest holders are " +
                  largest_holders(needed.memory.peak_by_holder) + "; " +
                  (remedy
                       ? "with " + remedy->text + " it takes " + human_bytes(remedy->bytes)
                       : "no recomputation and no other order of the work makes it fit: split the model or "
                         "its state over more ranks (mesh.data with zero.stage=3, mesh.model)"));
}

}  // namespace toroid::train
