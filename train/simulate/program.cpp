#include "train/simulate/program.h"

#include <algorithm>

#include "parallel/mesh/mesh.h"

namespace toroid::train {
namespace {

bool between_pods(const CollectiveNote& note) {
  return note.axis == mesh::name(mesh::Axis::pod);
}

bool sums(const CollectiveNote& note) {
  return note.operation == "reduce_scatter" || note.operation == "all_reduce";
}

using CostKey = std::tuple<std::string_view, Phase, int64_t, int64_t, int64_t>;

CostKey key_of(const Record& record, const Cost& cost) {
  return {record.op, record.phase, cost.flops(), cost.bytes_read, cost.bytes_written};
}

// (n - 1) / n of the array, and twice that where it is scattered and gathered again.
double wire_bytes(const CollectiveNote& note) {
  const auto n = static_cast<double>(note.ranks);
  const double once = (n - 1) / n * static_cast<double>(note.wire_bytes);
  return note.operation == "all_reduce" ? 2 * once : once;
}

}  // namespace

ProgramStep::ProgramStep(std::span<const Record> records) {
  std::map<CostKey, size_t> operators;
  std::map<std::tuple<std::string, std::string, int64_t, Phase>, size_t> collectives;
  for (const Record& record : records) {
    if (record.kind == Record::Kind::transfer) {
      const CollectiveNote& note = record.note;
      const std::tuple key{note.operation, note.axis, note.wire_bytes, note.phase};
      const auto [found, fresh] = collectives.try_emplace(key, collectives_.size());
      if (fresh) collectives_.push_back({note, 0});
      ++collectives_[found->second].count;
      continue;
    }
    if (record.kind != Record::Kind::launch && record.kind != Record::Kind::copy) continue;
    Cost cost = record.cost;
    if (record.kind == Record::Kind::copy) cost.bytes_read = cost.bytes_written = record.bytes;
    const auto [found, fresh] = operators.try_emplace(key_of(record, cost), operators_.size());
    if (fresh) operators_.push_back({cost, record.phase, record.op.starts_with("attention"), 0});
    ++operators_[found->second].count;
  }
}

ProgramTime ProgramStep::time(const sim::Chip& chip, const ProgramConstants& constants) const {
  sim::Chip attending = chip;
  attending.constants.product_efficiency = constants.attention_efficiency;
  ProgramTime out;
  for (const Operators& each : operators_) {
    const sim::OperatorTime one = sim::time_of(each.attention ? attending : chip, each.cost);
    const Seconds all = static_cast<double>(each.count) * one.total;
    (one.bound_by_memory() ? out.memory_bound : out.products) += all;
    out.phases[static_cast<size_t>(each.phase)] += all;
  }
  const double rate = constants.links * chip.topology.bytes_per_s * chip.constants.link_efficiency;
  Seconds forward{0}, backward{0};
  for (const Collectives& each : collectives_) {
    const CollectiveNote& note = each.note;
    if (note.ranks < 2) continue;
    const auto count = static_cast<double>(each.count);
    if (between_pods(note)) {
      out.pods += count * (constants.pod_latency + 2.0 * (note.ranks - 1) * constants.pod_step +
                           Seconds(wire_bytes(note) / chip.host.chip_bytes_per_s));
      continue;
    }
    const Seconds one = chip.constants.collective_overhead + Seconds(wire_bytes(note) / rate);
    (note.phase == Phase::forward ? forward : backward) += count * one;
  }
  const auto operators = [&](Phase phase) { return out.phases[static_cast<size_t>(phase)]; };
  out.busy = forward + backward;
  out.torus_forward = std::max(Seconds(0), forward - operators(Phase::forward));
  out.torus_backward =
      std::max(Seconds(0), backward - operators(Phase::recompute) - operators(Phase::backward));
  return out;
}

sim::Played as_played(const ProgramTime& time, sim::Network& network, std::span<const Record> records) {
  sim::Played out;
  out.step = time.total();
  out.products = time.products;
  out.memory_bound = time.memory_bound;
  out.waited[static_cast<size_t>(Queue::gather)] = time.torus_forward;
  out.waited[static_cast<size_t>(Queue::reduce)] = time.torus_backward;
  out.waited[static_cast<size_t>(Queue::pod)] = time.pods;
  out.busy[static_cast<size_t>(Queue::gather)] = time.busy;
  out.busy[static_cast<size_t>(Queue::pod)] = time.pods;
  out.phases = time.phases;
  out.phases[static_cast<size_t>(Phase::forward)] += time.torus_forward;
  out.phases[static_cast<size_t>(Phase::backward)] += time.torus_backward + time.pods;
  for (const Record& record : records) {
    if (record.kind != Record::Kind::transfer || record.note.ranks < 2) continue;
    const sim::Flow& flow = network.flow(record.note);
    for (size_t link = 0; link < sim::kLinks; ++link) {
      out.link_seconds[link] += flow.busy[link];
      out.link_bytes[link] += flow.bytes[link];
    }
  }
  return out;
}

}  // namespace toroid::train
