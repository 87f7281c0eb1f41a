// What a simulation says: whether it fits, how long a step is and where the time goes, what limits it, and
// what a run of so many tokens takes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "simulate/answer/dispatch.h"
#include "simulate/play/simulate.h"

namespace toroid::train {

// Where a step's time goes; the parts add up to it.
struct TimeSplit {
  Seconds products{0};      // operators that products bound
  Seconds vector_bound{0};  // and those that the vector units do
  Seconds memory_bound{0};  // and those that the chip's memory does
  Seconds torus{0};         // compute waits for a collective within the pod
  Seconds pods{0};          // or between pods
  Seconds dispatch{0};      // or for the controller
  Seconds bubbles{0};       // or for chips that are slower, and what is left
  // What tables give as one: dispatch and bubbles, without the -0.000 of a sum of parts.
  Seconds rest() const;
  Seconds other_operators() const { return vector_bound + memory_bound; }
  Seconds total() const { return products + vector_bound + memory_bound + torus + pods + dispatch + bubbles; }
};

struct MemoryAnswer {
  int64_t peak_bytes = 0, chip_bytes = 0;
  std::map<std::string, int64_t> by_holder;  // at the peak; what blocks leave between them is one of them
  std::map<std::string, int64_t> by_phase;   // the peak within each phase of the step
  bool fits() const { return peak_bytes <= chip_bytes; }
};

MemoryAnswer memory_of(const SimulatedRole& role, const sim::Chip& chip);

// What one kind of link (sim::link_name) carries.
struct LinkAnswer {
  std::string name;
  double bytes = 0;        // that a chip sends in a step
  double utilisation = 0;  // of the busiest link's time
};

struct Answer {
  std::string chip, schedule;
  std::string constants;  // the chip's: "fitted" to published runs, "nominal", or "measured" on this machine
  int64_t chips = 0, pods = 0, roles = 0;
  int64_t tokens_per_step = 0;
  std::string ramp;  // of the batch, where it has one: the step is one of the last phase
  Seconds step{0};
  TimeSplit split;
  double mfu_causal = 0, mfu_full_attention = 0;  // of the chip's peak for the compute type
  double hfu = 0;                                 // products that are executed, recomputation included
  double tokens_per_s = 0;
  MemoryAnswer memory;
  std::vector<LinkAnswer> links;
  double goal_tokens = 0;
  Seconds time_to_goal{0};
  double energy_joules = 0, cost_dollars = 0;  // to the goal; 0 where the chip has no figures
  std::string limit, remedy;                   // a sentence each; what would help, with the figure

  // "fitted constants"; of a data sheet's it says that no published run was compared with them.
  std::string constants_text() const;
  double tokens_per_s_chip() const { return tokens_per_s / static_cast<double>(chips); }
};

struct AnswerOptions {
  double goal_tokens = 0;            // 0: those of the whole run
  std::optional<Dispatch> dispatch;  // else the schedule's
};

// What a step takes that was played in `played`: with what the controller adds.
Seconds step_time(const config::RunConfig& run, const sim::Chip& chip, Seconds played,
                  const AnswerOptions& options = {});

// `limit` is filled in, `remedy` is not.
Answer answer(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
              const AnswerOptions& options = {});

// Whether a figure is a share of a peak. More than one is none: this machine's peak (chip host) was measured
// while other programs ran, or is that of more cores than are busy, or attention counts that is not computed.
inline bool is_share(double part) {
  return part <= 1;
}
// "52.31 %"; "-" for what is no share.
std::string share_text(double part, int decimals = 2);

}  // namespace toroid::train
