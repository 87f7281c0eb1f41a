// The certificate that every layout computes the same thing (docs/design.md section 1): the same steps under
// each layout, and what one rank of each reports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "train/certify/layout.h"
#include "train/certify/work.h"
#include "train/engine/engine.h"

namespace toroid::train {

struct CertifiedStep {
  double loss = 0, gradient_norm = 0;
  uint64_t weights = 0, moments = 0;  // additive hashes over all elements of all tensors
  bool operator==(const CertifiedStep&) const = default;
};

struct LayoutRun {
  std::string layout;
  std::vector<CertifiedStep> steps;
  std::vector<RankWork> work;  // of the last step, by rank
};

// The config of a run that certifies: so many sequences that the largest of `layouts` has two microbatches on
// each replica, and clipping that is active.
config::RunConfig certified_config(config::RunConfig run, const std::vector<Layout>& layouts, int64_t steps);

// Trains run.train.steps steps as one rank of `world`. Tokens are synthetic, with other numbers of masked
// targets in each sequence.
LayoutRun run_layout(const config::RunConfig& run, std::unique_ptr<World> world,
                     std::unique_ptr<Device> device, const Plugins& plugins, const AdaptGroups& adapt = {});

std::string to_text(const LayoutRun& run);
LayoutRun layout_run(std::string_view text, const std::string& origin);

// Compares runs with the first of them.
struct Verdict {
  bool passed = true;
  std::vector<std::string> findings;  // one sentence for each difference
};
Verdict compare_bits(const LayoutRun& reference, const LayoutRun& other);
// The largest difference of a loss or norm from `reference`, relative.
double deviation(const LayoutRun& reference, const LayoutRun& other);

}  // namespace toroid::train
