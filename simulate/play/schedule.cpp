#include "simulate/play/schedule.h"

#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "parallel/mesh/mesh.h"
#include "simulate/play/schedule.pb.h"

namespace toroid::sim {
namespace {

Schedule::Beside beside(config::StepScheduleConfig::Beside value) {
  switch (value) {
    case config::StepScheduleConfig::OPERATORS:
      return Schedule::Beside::operators;
    case config::StepScheduleConfig::NOTHING:
      return Schedule::Beside::nothing;
    case config::StepScheduleConfig::OPERATORS_BUT_LATENCIES:
      return Schedule::Beside::operators_but_latencies;
  }
  throw InternalError("a schedule's collectives go beside operators or not");
}

// Rows and columns as nearly as many as each other; a corner stays empty where they hold more than there are.
std::pair<int, int> square(int pods) {
  const int rows = static_cast<int>(std::sqrt(pods));
  return {rows, static_cast<int>(divide_up(pods, rows))};
}

}  // namespace

Schedule make_schedule(const config::StepScheduleConfig& config, const std::string& name) {
  Schedule out;
  out.name = name;
  out.within_pod = beside(config.within_pod());
  out.between_pods = beside(config.between_pods());
  if (out.within_pod == Schedule::Beside::operators_but_latencies)
    throw UserError(
        "within_pod is OPERATORS_BUT_LATENCIES; a chip does not stand still for the hops of its own links: "
        "OPERATORS or NOTHING");
  out.in_squares = config.pod_reduction() == config::StepScheduleConfig::IN_SQUARES;
  out.sums_in_bf16 = config.partial_sums() == config::StepScheduleConfig::BF16;
  switch (config.dispatch()) {
    case config::StepScheduleConfig::PARALLEL:
      out.dispatch = Dispatch::parallel;
      break;
    case config::StepScheduleConfig::SEQUENTIAL:
      out.dispatch = Dispatch::sequential;
      break;
    case config::StepScheduleConfig::NO_CONTROLLER:
      out.dispatch = Dispatch::none;
      break;
  }
  return out;
}

// A reduction between pods as rings of rings: of V bytes, each row scatters V over its columns, each column V
// / columns over its rows, and both gather back, (rows - 1) + (columns - 1) steps each way.
Flow ScheduledNetwork::in_squares(const CollectiveInfo& info) const {
  const auto [rows, columns] = square(info.ranks);
  const HostLinks& host = network_.host();
  const double ways = info.operation == "all_reduce" ? 2 : 1;
  const double bytes = ways * static_cast<double>(info.wire_bytes) * (info.ranks - 1) / info.ranks;
  Flow out;
  out.latency = host.message_latency + ways * (rows + columns - 2) * host.ring_step;
  out.transfer = Seconds(bytes / network_.bytes_per_s(kBetweenPods));
  out.busy[kBetweenPods] = out.transfer.count();
  out.bytes[kBetweenPods] = bytes;
  return out;
}

const Flow& ScheduledNetwork::flow(const CollectiveInfo& info) {
  if (schedule_.in_squares && info.axis == mesh::name(mesh::Axis::pod) && info.ranks > 1) {
    const std::tuple key{info.operation, info.wire_bytes, info.ranks};
    const auto found = between_pods_.find(key);
    return found != between_pods_.end() ? found->second
                                        : between_pods_.emplace(key, in_squares(info)).first->second;
  }
  if (schedule_.sums_in_bf16 && info.axis == mesh::name(mesh::Axis::model) &&
      info.operation == "reduce_scatter" && info.type == DType::f32 && info.wire_bytes > info.bytes / 2) {
    CollectiveInfo rounded = info;
    rounded.wire_bytes = info.bytes / 2;
    return network_.flow(rounded);
  }
  return network_.flow(info);
}

}  // namespace toroid::sim
