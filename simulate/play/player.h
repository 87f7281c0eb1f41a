// Plays what chips recorded of one step: operators one after the other on each lane, waits between lanes,
// collectives once all of a group's chips are there, on links that those under way at a time share.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "core/device/sim/chip.h"
#include "core/device/sim/recording_device.h"
#include "simulate/play/network.h"
#include "simulate/play/role.h"
#include "simulate/play/schedule.h"

namespace toroid::sim {

// A chip that is played: which of the records it follows, and how much longer than them its operators take.
struct PlayedChip {
  size_t role = 0;
  double slowness = 1;
  std::array<int, 3> group{};  // the number of its group on each mesh::Axis
};

struct PlayOptions {
  bool spans = false;  // keep the first chip's
  Schedule schedule;
};

struct TimeSpan {
  Queue queue = Queue::compute;
  const Record* record = nullptr;  // a wait's is the wait
  Seconds begin{0}, end{0};
};

// Where the time of a step went, on one chip: of chips that are alike, the one whose operators were done
// last; of others, one of the middling speed, on which the time that is lost to slower ones shows as waiting.
struct Played {
  Seconds step{0};
  Seconds products{0};                    // operators that the products bound
  Seconds vector_bound{0};                // those that the vector units do
  Seconds memory_bound{0};                // and those that memory does
  std::array<Seconds, kQueues> waited{};  // of the operators' lane, on collectives of each queue
  Seconds late{0};                        // and for chips that came to a collective later than this one
  Seconds tail{0};                        // after its last operator, until all lanes of all chips are done
  std::array<Seconds, kQueues> busy{};    // collectives under way on each queue
  std::array<Seconds, 5> phases{};  // operators and waits on the operators' lane, by Phase of what follows
  std::array<double, kLinks> link_seconds{};  // bytes over the bandwidth of the busiest link of each kind
  std::array<double, kLinks> link_bytes{};    // sent by a chip
  std::vector<TimeSpan> spans;
};

// `roles`: what each kind of chip recorded (with waits), which outlives the result's spans. All chips issue
// the same collectives in the same order; InternalError where they do not.
Played play(const Chip& chip, Network& network, const std::vector<StepRecords>& roles,
            const std::vector<PlayedChip>& chips, const PlayOptions& options = {});

}  // namespace toroid::sim
