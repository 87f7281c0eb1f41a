#include "simulate/play/role.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "parallel/mesh/mesh.h"

namespace toroid::sim {
namespace {

bool is_entry(const Record& record) {
  return record.kind == Record::Kind::launch || record.kind == Record::Kind::copy ||
         record.kind == Record::Kind::transfer;
}

uint8_t axis_of(const CollectiveInfo& info) {
  for (const mesh::Axis axis : mesh::kAxes) {
    if (info.axis == mesh::name(axis)) return static_cast<uint8_t>(axis);
  }
  throw InternalError("a collective of a step is on an axis of the mesh, not on " + info.axis);
}

// Operators of a step are few kinds of one size, issued over and over: each is priced once.
class Prices {
 public:
  explicit Prices(const Chip& chip) : chip_(chip) {}

  std::pair<double, OperatorTime::Bound> of(const Record& record) {
    if (record.kind != Record::Kind::copy) return of(record.op, record.cost);
    Cost cost = record.cost;
    cost.bytes_read = cost.bytes_written = record.bytes;
    return of(record.op, cost);
  }

 private:
  std::pair<double, OperatorTime::Bound> of(std::string_view op, const Cost& cost) {
    auto [at, end] = known_.equal_range(key_of(op, cost));
    for (; at != end; ++at) {
      const Priced& each = at->second;
      if (each.op == op && same(each.cost, cost)) return {each.seconds, each.bound};
    }
    const OperatorTime time = time_of(chip_, op, cost);
    known_.emplace(key_of(op, cost), Priced{op, cost, time.total.count(), time.bound()});
    return {time.total.count(), time.bound()};
  }

  struct Priced {
    std::string_view op;
    Cost cost;
    double seconds;
    OperatorTime::Bound bound;
  };
  static bool same(const Cost& a, const Cost& b) {
    return a.bytes_read == b.bytes_read && a.bytes_written == b.bytes_written &&
           a.vector_flops == b.vector_flops &&
           std::equal(a.products.begin(), a.products.end(), b.products.begin(), b.products.end(),
                      [](const Product& x, const Product& y) {
                        return x.m == y.m && x.n == y.n && x.k == y.k && x.count == y.count &&
                               x.type == y.type;
                      });
  }

  static uint64_t key_of(std::string_view op, const Cost& cost) {
    uint64_t key = std::hash<std::string_view>{}(op);
    const auto add = [&key](int64_t value) {
      key = (key ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15u;
      key ^= key >> 32;
    };
    add(cost.bytes_read);
    add(cost.bytes_written);
    add(cost.vector_flops);
    for (const Product& product : cost.products) add(product.flops());
    return key;
  }

  const Chip& chip_;
  std::unordered_multimap<uint64_t, Priced> known_;
};

class Builder {
 public:
  Builder(const Chip& chip, ScheduledNetwork& network) : prices_(chip), network_(network) {
    const Schedule& schedule = network.schedule();
    for (size_t queue = 0; queue < kQueues; ++queue) {
      const auto on = static_cast<Queue>(queue);
      const bool within = on == Queue::gather || on == Queue::reduce || on == Queue::model;
      const Schedule::Beside beside = within             ? schedule.within_pod
                                      : on == Queue::pod ? schedule.between_pods
                                                         : Schedule::Beside::operators;
      lane_[queue] = beside == Schedule::Beside::nothing ? 0 : queue;
    }
  }

  Role build(const StepRecords& records) {
    std::array<size_t, kQueues> length{};
    records.each([&](const Record& record) {
      if (is_entry(record)) tickets_[index(record.queue)].push_back(record.ticket);
      if (is_entry(record) || record.kind == Record::Kind::wait) ++length[lane_[index(record.queue)]];
    });
    for (size_t lane = 0; lane < kQueues; ++lane) out_.lanes[lane].reserve(length[lane]);
    for (auto& ends : ends_) ends.assign(tickets_[static_cast<size_t>(&ends - ends_.data())].size(), -1);
    records.each([this](const Record& record) { note_who_is_waited_for(record); });
    records.each([this](const Record& record) { add(record); });
    return std::move(out_);
  }

 private:
  static size_t index(Queue queue) { return static_cast<size_t>(queue); }

  // Entries up to that ticket; tickets between entries are of what takes no time here, as the host's writes.
  uint32_t done_at(const Event& until) const {
    const std::vector<uint64_t>& tickets = tickets_[index(until.queue)];
    return static_cast<uint32_t>(std::upper_bound(tickets.begin(), tickets.end(), until.ticket) -
                                 tickets.begin());
  }

  void note_who_is_waited_for(const Record& record) {
    if (record.kind != Record::Kind::wait) return;
    const size_t on = index(record.until.queue);
    const uint32_t done = done_at(record.until);
    if (done > 0 && lane_[on] != lane_[index(record.queue)] && ends_[on][done - 1] < 0)
      ends_[on][done - 1] = out_.ends++;
  }

  void add(const Record& record) {
    const size_t queue = index(record.queue), lane = lane_[queue];
    if (record.kind == Record::Kind::wait) {
      add_wait(record, lane);
    } else if (is_entry(record)) {
      add_work(record, queue, lane, issued_[queue]++);
    }
  }

  void add_wait(const Record& record, size_t lane) {
    const size_t on = index(record.until.queue);
    const uint32_t done = done_at(record.until);
    if (done == 0 || lane_[on] == lane) return;  // it has passed before, or comes before on this lane
    Entry& entry = out_.lanes[lane].emplace_back();
    entry.kind = Entry::Kind::wait;
    entry.queue = record.until.queue;
    entry.done = done;
    entry.end = ends_[on][done - 1];
    entry.record = &record;
  }

  void add_work(const Record& record, size_t queue, size_t lane, uint32_t number) {
    Entry entry;
    entry.queue = record.queue;
    entry.record = &record;
    entry.end = ends_[queue][number];
    if (record.kind == Record::Kind::transfer) {
      entry.kind = Entry::Kind::transfer;
      entry.axis = axis_of(*record.info);
      entry.flow = &network_.flow(*record.info);
      out_.loses = out_.loses || entry.flow->lost > Seconds(0);
      if (queue == index(Queue::pod) &&
          network_.schedule().between_pods == Schedule::Beside::operators_but_latencies) {
        Entry stall = entry;
        stall.kind = Entry::Kind::stall;
        stall.end = Entry::kNobody;
        stall.seconds = entry.flow->latency.count();
        out_.lanes[0].push_back(stall);
      }
    } else {
      std::tie(entry.seconds, entry.bound) = prices_.of(record);
    }
    out_.lanes[lane].push_back(entry);
  }

  Prices prices_;
  ScheduledNetwork& network_;
  std::array<size_t, kQueues> lane_{};
  std::array<std::vector<uint64_t>, kQueues> tickets_;
  std::array<std::vector<int>, kQueues> ends_;  // by entry of each queue
  std::array<uint32_t, kQueues> issued_{};
  Role out_;
};

}  // namespace

Role role_of(const Chip& chip, ScheduledNetwork& network, const StepRecords& records) {
  return Builder(chip, network).build(records);
}

}  // namespace toroid::sim
