// What one kind of chip recorded, as a player takes it: what runs on which lane, how long it takes there, and
// what it waits for.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "core/device/sim/chip.h"
#include "core/device/sim/recording_device.h"
#include "simulate/play/schedule.h"

namespace toroid::sim {

struct Entry {
  enum class Kind : uint8_t {
    wait,
    work,      // an operator or a copy
    stall,     // the chip stands still for the messages of a collective that follows on another lane
    transfer,  // of a collective
  };
  static constexpr int kNobody = -1;

  Kind kind = Kind::work;
  OperatorTime::Bound bound = OperatorTime::Bound::products;
  Queue queue = Queue::compute;  // that it was issued on; of a wait the one that it waits for
  uint8_t axis = 0;              // of a transfer
  // Of a wait: how many entries of `queue` are done when it is over.
  uint32_t done = 0;
  // Where the end of the entry is kept for those who wait for it; of a wait, of the last of `done`.
  int end = kNobody;
  double seconds = 0;
  const Record* record = nullptr;
  const Flow* flow = nullptr;  // of a transfer
};

// Lanes are queues as a schedule runs them: what goes beside nothing is on the lane of the operators.
struct Role {
  std::array<std::vector<Entry>, kQueues> lanes;
  int ends = 0;        // that are kept
  bool loses = false;  // whether operators lose time to collectives beside them
};

// A step in two parts, of which roles may share the first.
struct StepRecords {
  std::span<const Record> passes, rest;
  size_t size() const { return passes.size() + rest.size(); }
  template <class Visit>
  void each(const Visit& visit) const {
    for (const Record& record : passes) visit(record);
    for (const Record& record : rest) visit(record);
  }
};

// `records` and `network` outlive it. InternalError for a collective on no axis of a mesh.
Role role_of(const Chip& chip, ScheduledNetwork& network, const StepRecords& records);

}  // namespace toroid::sim
