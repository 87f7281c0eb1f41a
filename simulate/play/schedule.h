// How a program runs its step on a chip, in the terms of a player: configs/schedules.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/device/transfer.h"
#include "simulate/play/network.h"

namespace toroid::config {
class StepScheduleConfig;
}

namespace toroid::sim {

// How a single controller starts the steps of the chips (Pathways).
enum class Dispatch : uint8_t {
  none,        // there is no such controller
  parallel,    // asynchronous and ahead of the chips: a step lasts at least as long as its dispatch
  sequential,  // a step is dispatched when the one before it is done
};

struct Schedule {
  enum class Beside : uint8_t { operators, nothing, operators_but_latencies };
  std::string name = "toroid";
  Beside within_pod = Beside::operators;
  Beside between_pods = Beside::operators;
  bool in_squares = false;    // how pods reduce; else as issued
  bool sums_in_bf16 = false;  // partial sums of activations travel so on the model axis
  Dispatch dispatch = Dispatch::parallel;
};

// UserError with what a schedule cannot be.
Schedule make_schedule(const config::StepScheduleConfig& config, const std::string& name);

// What a schedule's collectives ask of the links.
class ScheduledNetwork {
 public:
  ScheduledNetwork(Schedule schedule, Network& network) : schedule_(std::move(schedule)), network_(network) {}
  const Schedule& schedule() const { return schedule_; }
  const Flow& flow(const CollectiveInfo& info);

 private:
  Flow in_squares(const CollectiveInfo& info) const;

  Schedule schedule_;
  Network& network_;
  std::map<std::tuple<std::string, int64_t, int>, Flow> between_pods_;
};

}  // namespace toroid::sim
