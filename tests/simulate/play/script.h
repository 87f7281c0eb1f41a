// Records of a step, written by hand. Times are seconds: an operator of s seconds reads s 1e9 bytes, and an
// all_gather of s 1e9 bytes over a ring of four of chip_with_hops() takes s.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/sim/recording_device.h"
#include "tests/simulate/play/simulated_chip.h"

namespace toroid::sim {

inline constexpr double kSecond = 1e9;

class Script {
 public:
  uint64_t op(double seconds, Queue queue = Queue::compute, Phase phase = Phase::forward) {
    Record record;
    record.kind = Record::Kind::launch;
    record.op = "op";
    record.phase = phase;
    record.queue = queue;
    record.cost.bytes_read = static_cast<int64_t>(seconds * kSecond);
    return add(record);
  }
  uint64_t gather(double seconds, const std::string& axis = "data", Queue queue = Queue::gather) {
    Record record;
    record.kind = Record::Kind::transfer;
    record.op = "collective";
    record.queue = queue;
    CollectiveInfo info;
    info.operation = "all_gather";
    info.axis = axis;
    info.ranks = 4;
    info.method = "bidirectional_ring";
    info.bytes = info.wire_bytes = static_cast<int64_t>(seconds * kSecond);
    record.info = std::make_shared<CollectiveInfo>(info);
    return add(record);
  }
  // Of the last record, which is a collective: another one.
  void change(const std::function<void(CollectiveInfo&)>& how) {
    CollectiveInfo info = *records.back().info;
    how(info);
    records.back().info = std::make_shared<CollectiveInfo>(info);
  }
  Script& wait(Queue queue, Queue on, uint64_t ticket) {
    Record record;
    record.kind = Record::Kind::wait;
    record.queue = queue;
    record.until = {on, ticket};
    records.push_back(record);
    return *this;
  }
  // Tickets of what is not recorded.
  Script& skip(Queue queue, uint64_t tickets) {
    tickets_[static_cast<size_t>(queue)] += tickets;
    return *this;
  }
  std::vector<Record> records;

 private:
  uint64_t add(Record& record) {
    record.ticket = ++tickets_[static_cast<size_t>(record.queue)];
    records.push_back(record);
    return record.ticket;
  }
  std::array<uint64_t, kQueues> tickets_{};
};

inline Chip chip_with_hops(double hop) {
  return chip_of(
      "torus { pod: 16 pod: 16 wrap: MULTIPLES wrap_size: 4 link_bytes_per_s: 0.375e9 hop_latency_s: " +
      std::to_string(hop) + " }");
}

}  // namespace toroid::sim
