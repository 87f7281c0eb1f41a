#include "simulate/play/network.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "parallel/comm/round_by_round.h"
#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"
#include "simulate/play/message_play.h"

namespace toroid::sim {
namespace {

using schedule::Algorithm;
using schedule::GroupShape;
using schedule::Move;
using schedule::Operation;
using schedule::Plan;

// Above it, ranks of a group that are not all alike are not played one by one: bytes over the busiest link
// and a hop a round.
constexpr size_t kMostMoves = size_t{1} << 18;

// Of an array of `bytes`, what a move carries.
double share(const Move& move, const Plan& plan, double bytes) {
  return bytes * static_cast<double>(move.chunks()) / static_cast<double>(plan.chunks);
}

class TorusPlay {
 public:
  TorusPlay(const GroupShape& shape, const Lanes& lanes) : shape_(shape) {
    for (size_t d = 0; d < lanes_.size(); ++d) lanes_[d] = lanes[d / 2];
  }

  struct Times {
    double hops = 0, bytes = 0;  // of those alone
    double both = 0;
  };

  // Every rank sends what rank 0 does. Its links carry their bytes without a pause, since all phases of a
  // chunk's way are under way at a time, each with a part of the array.
  Times one_for_all(const Plan& plan, double bytes, Flow& flow) const {
    std::vector<schedule::Link> route;
    std::array<int, kDimensions> rounds{}, last;  // in which a dimension is used
    last.fill(-1);
    for (const Move& move : plan.moves) {
      if (move.receive) continue;
      route.clear();
      schedule::append_route(shape_, 0, move.peer, route);
      const auto direction = static_cast<size_t>(route.front().direction);
      flow.bytes[direction] += share(move, plan, bytes);
      if (std::exchange(last[direction / 2], move.round) != move.round) ++rounds[direction / 2];
    }
    const std::array<int, kDimensions> sizes = {shape_.columns, shape_.rows, shape_.planes};
    Times out;
    int dimensions = 0;
    for (size_t d = 0; d < sizes.size(); ++d) {
      const size_t on = 2 * d, back = on + 1;
      if (rounds[d] == 0) continue;
      ++dimensions;
      out.hops += rounds[d] * lanes_[on].latency.count();
      for (const size_t direction : {on, back})
        flow.busy[direction] = flow.bytes[direction] / lanes_[on].bytes_per_s;
      if (sizes[d] == 2) {
        // What rank 0 sends one way over the only link of a pair, its partner sends the other way.
        flow.busy[back] = flow.busy[on];
        flow.bytes[on] = flow.bytes[back] = flow.bytes[on] / 2;
      }
      out.bytes = std::max({out.bytes, flow.busy[on], flow.busy[back]});
    }
    // A chunk goes along a dimension in one of the phases in which that has traffic.
    out.hops /= std::max(dimensions, 1);
    out.both = std::max(out.hops, out.bytes);
    return out;
  }

  Times all_ranks(const std::vector<Plan>& plans, double bytes, Flow& flow) const {
    auto hopless = lanes_;
    for (Lane& lane : hopless) lane.latency = Seconds(0);
    const PlayedMessages played = play_messages(shape_, plans, bytes, hopless);
    for (size_t index = 0; index < played.carried.size(); ++index) {
      const size_t direction = index % lanes_.size();
      flow.busy[direction] =
          std::max(flow.busy[direction], played.carried[index] / lanes_[direction].bytes_per_s);
      flow.bytes[direction] += played.carried[index] / static_cast<double>(shape_.size());
    }
    return {play_messages(shape_, plans, 0, lanes_).seconds, played.seconds,
            play_messages(shape_, plans, bytes, lanes_).seconds};
  }

 private:
  GroupShape shape_;
  std::array<Lane, schedule::kDirections> lanes_;
};

Plan plan_of(Algorithm algorithm, Operation operation, const GroupShape& shape, int rank, int round) {
  const Plan whole = schedule::plan(algorithm, operation, shape, rank);
  return round < 0 ? whole : schedule::round_of(whole, round);
}

Operation operation_of(const std::string& name) {
  if (name == "barrier") return Operation::all_reduce;
  for (const Operation operation : schedule::kOperations) {
    if (name == schedule::name(operation)) return operation;
  }
  throw InternalError("the simulated network knows no " + name);
}

Algorithm algorithm_of(const CollectiveInfo& info) {
  for (const Algorithm algorithm : schedule::all_algorithms()) {
    if (info.method == schedule::name(algorithm)) return algorithm;
  }
  throw InternalError("a simulated " + info.operation + " goes by messages, not by " + info.method);
}

// Of which this is one; 1 where all of them are.
int rounds_of_whole(const CollectiveInfo& info, const GroupShape& shape) {
  if (info.round < 0) return 1;
  return schedule::plan(algorithm_of(info), operation_of(info.operation), shape, 0).rounds;
}

// Of the whole array as it travels; a round says its share.
double array_bytes(const CollectiveInfo& info, const GroupShape& shape) {
  return static_cast<double>(info.wire_bytes) * rounds_of_whole(info, shape);
}

int parts_of(const mesh::Mesh::Dimension& dimension, mesh::Axis axis) {
  return axis == mesh::Axis::model ? dimension.model_parts : dimension.data_parts;
}

// The dimensions of the torus that an axis has parts of.
std::vector<size_t> dimensions_of(const mesh::Mesh& mesh, mesh::Axis axis) {
  std::vector<size_t> out;
  for (size_t i = 0; i < mesh.torus().size(); ++i) {
    if (parts_of(mesh.torus()[i], axis) > 1) out.push_back(i);
  }
  return out;
}

mesh::Axis axis_named(const std::string& name) {
  for (const mesh::Axis axis : mesh::kAxes) {
    if (name == mesh::name(axis)) return axis;
  }
  throw InternalError("a collective of a step is on an axis of the mesh, not on " + name);
}

}  // namespace

std::string link_name(int link) {
  if (link == kBetweenPods) return "between pods";
  return "torus " + std::to_string(link / 2) + (link % 2 == 0 ? " +" : " -");
}

Flow play_on_torus(Algorithm algorithm, Operation operation, const GroupShape& shape, double bytes,
                   const Lanes& lanes, int round) {
  Flow flow;
  const TorusPlay play(shape, lanes);
  const Plan plan = plan_of(algorithm, operation, shape, 0, round);
  TorusPlay::Times times;
  if (algorithm->alike != nullptr && algorithm->alike(shape)) {
    times = play.one_for_all(plan, bytes, flow);
  } else if (plan.moves.size() * static_cast<size_t>(shape.size()) > kMostMoves) {
    const double most = schedule::most_link_bytes(algorithm, operation, shape, bytes);
    double slowest = 0;
    for (const Lane& lane : lanes) {
      times.hops = std::max(times.hops, plan.rounds * lane.latency.count());
      slowest = std::max(slowest, 1 / lane.bytes_per_s);
    }
    times.bytes = most * slowest;
    times.both = times.hops + times.bytes;
    for (size_t d = 0; d < 2 * lanes.size(); ++d) {
      flow.busy[d] = times.bytes;
      flow.bytes[d] = most;
    }
  } else {
    std::vector<Plan> plans;
    plans.reserve(static_cast<size_t>(shape.size()));
    for (int rank = 0; rank < shape.size(); ++rank)
      plans.push_back(plan_of(algorithm, operation, shape, rank, round));
    times = play.all_ranks(plans, bytes, flow);
  }
  const double total = algorithm->between_neighbours ? std::max(times.hops, times.bytes) : times.both;
  flow.transfer = Seconds(times.bytes);
  flow.latency = Seconds(std::max(0.0, total - times.bytes));
  return flow;
}

Flow play_on_switch(Algorithm algorithm, Operation operation, int ranks, double bytes, const Lane& port,
                    int round) {
  Flow flow;
  const Plan plan = plan_of(algorithm, operation, {1, ranks}, 0, round);
  for (size_t at = 0; at < plan.moves.size();) {
    double sent = 0, received = 0;
    const int now = plan.moves[at].round;
    for (; at < plan.moves.size() && plan.moves[at].round == now; ++at) {
      const Move& move = plan.moves[at];
      (move.receive ? received : sent) += share(move, plan, bytes);
    }
    flow.latency += port.latency;
    flow.transfer += Seconds(std::max(sent, received) / port.bytes_per_s);
    flow.bytes[0] += sent;
  }
  flow.busy[0] = flow.transfer.count();
  return flow;
}

Network::Network(const mesh::Mesh& mesh, const Chip& chip)
    : mesh_(mesh),
      topology_(chip.topology),
      host_(chip.host),
      constants_(chip.constants),
      measured_(chip.measured) {
  if (measured_) return;
  std::string pod;
  for (const int64_t size : topology_.pod) pod += (pod.empty() ? "" : " x ") + std::to_string(size);
  const auto refuse = [&](const std::string& what) {
    throw UserError("the mesh is " + mesh.text() + ", but a pod of chip " + chip.name + " has " + pod +
                    " chips: " + what + "; choose a smaller mesh.torus and more mesh.pods");
  };
  if (topology_.is_switch) {
    if (mesh.pod_size() > topology_.pod[0])
      refuse(std::to_string(mesh.pod_size()) + " do not fit on one switch");
    return;
  }
  // Each dimension of the mesh's torus takes one of the pod's; where that many fit in none, the mesh is
  // refused.
  std::vector<int64_t> room = topology_.pod, wanted;
  for (const auto& dimension : mesh.torus()) wanted.push_back(dimension.size);
  std::sort(room.rbegin(), room.rend());
  std::sort(wanted.rbegin(), wanted.rend());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int64_t there = i < room.size() ? room[i] : 1;
    if (wanted[i] > there)
      refuse("a dimension of " + std::to_string(wanted[i]) + " does not fit on one of " +
             std::to_string(there));
  }
  for (size_t i = 0; i < mesh.torus().size(); ++i)
    mesh_.set_wraps(static_cast<int>(i), topology_.wraps(mesh.torus()[i].size));
  mesh_.set_neighbours_alone();
}

double Network::bytes_per_s(int link) const {
  return link == kBetweenPods ? host_.chip_bytes_per_s : topology_.bytes_per_s * constants_.link_efficiency;
}

void Network::weaken(int dimension, double share) {
  require(flows_.empty(), "links grow weak before they are used");
  if (share <= 0) {
    mesh_.set_wraps(dimension, false);
  } else {
    shares_.at(static_cast<size_t>(dimension)) *= share;
  }
}

// Between neighbours of the axis. Those of the data axis lie a model run apart: a message takes as many
// links, on each of which as many groups are under way at a time.
Lane Network::lane(size_t dimension, mesh::Axis axis) const {
  const mesh::Mesh::Dimension& along = mesh_.torus()[dimension];
  const int apart = axis == mesh::Axis::data ? along.model_parts : 1;
  return {bytes_per_s(0) * shares_.at(dimension) / apart, apart * topology_.hop_latency};
}

Flow Network::on_torus(const CollectiveInfo& info, mesh::Axis axis) const {
  const std::vector<size_t> dimensions = dimensions_of(mesh_, axis);
  const schedule::GroupShape shape = mesh_.shape(axis);
  Flow out;
  if (dimensions.empty()) return out;
  Lanes lanes;
  lanes.fill(lane(dimensions.back(), axis));
  // Dimension d of the shape, the row first, is one of the torus, whose last is the row.
  const auto of_torus = [&](size_t d) { return dimensions[dimensions.size() - 1 - d]; };
  for (size_t d = 0; d < dimensions.size(); ++d) lanes[d] = lane(of_torus(d), axis);
  const Flow flow = play_on_torus(algorithm_of(info), operation_of(info.operation), shape,
                                  array_bytes(info, shape), lanes, info.round);
  out.latency = flow.latency;
  out.transfer = flow.transfer;
  for (size_t direction = 0; direction < 2 * dimensions.size(); ++direction) {
    const size_t dimension = of_torus(direction / 2), link = 2 * dimension + direction % 2;
    // A message between neighbours that lie apart is sent on by the chips between them.
    const int apart = axis == mesh::Axis::data ? mesh_.torus()[dimension].model_parts : 1;
    out.busy[link] = flow.busy[direction];
    out.bytes[link] = flow.bytes[direction] * apart;
  }
  return out;
}

// A collective waits for the network once, and in every round for its hosts to pass a message on.
Flow Network::between_pods(const CollectiveInfo& info) const {
  require(info.round < 0, "collectives between pods are whole");
  Flow out = play_on_switch(algorithm_of(info), operation_of(info.operation), info.ranks,
                            array_bytes(info, {1, info.ranks}), {bytes_per_s(kBetweenPods), host_.ring_step});
  if (info.ranks > 1) out.latency += host_.message_latency;
  std::swap(out.busy[0], out.busy[kBetweenPods]);
  std::swap(out.bytes[0], out.bytes[kBetweenPods]);
  return out;
}

Flow Network::make(const CollectiveInfo& info) const {
  if (info.operation == kSum) return {};  // the chip adds beside what travels, as in a whole collective
  if (measured_) {
    Flow out;
    const int rounds = rounds_of_whole(info, {1, info.ranks});  // each takes its share of the time of all
    out.transfer =
        measured_->collective_time(info.operation, info.method, info.ranks, info.wire_bytes * rounds) /
        rounds;
    out.lost = measured_->lost(out.transfer);
    out.busy[0] = out.transfer.count();
    out.bytes[0] = static_cast<double>(info.wire_bytes);
    return out;
  }
  const mesh::Axis axis = axis_named(info.axis);
  Flow out;
  if (axis == mesh::Axis::pod) {
    out = between_pods(info);
  } else if (topology_.is_switch) {
    out = play_on_switch(algorithm_of(info), operation_of(info.operation), info.ranks,
                         array_bytes(info, {1, info.ranks}), {bytes_per_s(0), topology_.hop_latency},
                         info.round);
  } else {
    out = on_torus(info, axis);
  }
  out.latency += constants_.collective_overhead;
  return out;
}

const Flow& Network::flow(const CollectiveInfo& info) {
  const auto found =
      flows_.find(std::tie(info.wire_bytes, info.round, info.operation, info.axis, info.method));
  if (found != flows_.end()) return found->second;
  std::tuple key{info.wire_bytes, info.round, info.operation, info.axis, info.method};
  return flows_.emplace(std::move(key), make(info)).first->second;
}

}  // namespace toroid::sim
