#include "simulate/play/program.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <tuple>

#include "parallel/mesh/mesh.h"

namespace toroid::train {
namespace {

bool between_pods(const CollectiveInfo& info) {
  return info.axis == mesh::name(mesh::Axis::pod);
}

bool on_model_axis(const CollectiveInfo& info) {
  return info.axis == mesh::name(mesh::Axis::model);
}

using CostKey = std::tuple<std::string_view, Phase, int64_t, int64_t, int64_t>;

CostKey key_of(const Record& record, const Cost& cost) {
  return {record.op, record.phase, cost.flops(), cost.bytes_read, cost.bytes_written};
}

// As this program sends it.
CollectiveInfo sent(CollectiveInfo info) {
  if (on_model_axis(info) && info.operation == "reduce_scatter")
    info.wire_bytes = std::min(info.wire_bytes, info.bytes / 2);  // bf16 for fp32
  return info;
}

}  // namespace

ProgramStep::ProgramStep(std::span<const Record> records, sim::Network& network, bool parallel_layers) {
  std::map<CostKey, size_t> operators;
  std::map<std::tuple<std::string, std::string, int64_t, Phase>, size_t> collectives;
  bool after_attention = false;  // in recomputation
  for (const Record& record : records) {
    if (record.kind == Record::Kind::transfer) {
      if (record.info.ranks < 2) continue;
      const CollectiveInfo info = sent(record.info);
      const std::tuple key{info.operation, info.axis, info.wire_bytes, info.phase};
      const auto [found, fresh] = collectives.try_emplace(key, collectives_.size());
      if (fresh) {
        const sim::Flow& flow = network.flow(info);
        collectives_.push_back({info, flow.latency, flow.transfer, 0});
      }
      collectives_[found->second].count += parallel_layers && on_model_axis(info) ? 0.5 : 1;
      continue;
    }
    if (record.kind != Record::Kind::launch && record.kind != Record::Kind::copy) continue;
    const bool attention = record.op.starts_with("attention");
    if (record.phase == Phase::recompute && parallel_layers) {
      if (after_attention && record.op == "matmul") {
        after_attention = false;
        continue;
      }
      after_attention = after_attention || attention;
    }
    Cost cost = record.cost;
    if (record.kind == Record::Kind::copy) cost.bytes_read = cost.bytes_written = record.bytes;
    const auto [found, fresh] = operators.try_emplace(key_of(record, cost), operators_.size());
    if (fresh) operators_.push_back({cost, record.phase, attention, 0});
    ++operators_[found->second].count;
  }
}

Seconds ProgramTime::torus_total() const {
  return std::accumulate(torus.begin(), torus.end(), Seconds(0));
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
  for (const Collectives& each : collectives_) {
    const CollectiveInfo& info = each.info;
    if (between_pods(info)) {
      const double steps = 2.0 * (info.ranks - 1);
      const double bytes = steps / info.ranks * static_cast<double>(info.wire_bytes);
      out.pods += each.count * (constants.pod_latency + steps * constants.pod_step +
                                Seconds(bytes / chip.host.chip_bytes_per_s));
      continue;
    }
    const Seconds all = each.count * (chip.constants.collective_overhead + each.latency +
                                      each.transfer / chip.constants.link_efficiency);
    const bool scatters_gradients = info.operation == "reduce_scatter" && !on_model_axis(info);
    out.torus[static_cast<size_t>(info.phase)] += (scatters_gradients ? 1 : constants.exposed) * all;
    out.busy += all;
  }
  return out;
}

sim::Played as_played(const ProgramTime& time, sim::Network& network, std::span<const Record> records) {
  sim::Played out;
  out.step = time.total();
  out.products = time.products;
  out.memory_bound = time.memory_bound;
  out.waited[static_cast<size_t>(Queue::gather)] = time.torus_total();
  out.waited[static_cast<size_t>(Queue::pod)] = time.pods;
  out.busy[static_cast<size_t>(Queue::gather)] = time.busy;
  out.busy[static_cast<size_t>(Queue::pod)] = time.pods;
  out.phases = time.phases;
  for (size_t phase = 0; phase < out.phases.size(); ++phase) out.phases[phase] += time.torus[phase];
  out.phases[static_cast<size_t>(Phase::backward)] += time.pods;
  for (const Record& record : records) {
    if (record.kind != Record::Kind::transfer || record.info.ranks < 2) continue;
    const sim::Flow& flow = network.flow(record.info);
    for (size_t link = 0; link < sim::kLinks; ++link) {
      out.link_seconds[link] += flow.busy[link];
      out.link_bytes[link] += flow.bytes[link];
    }
  }
  return out;
}

}  // namespace toroid::train
