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

int64_t chunks_of(const Move& move) {
  return move.count * move.blocks;
}

class TorusPlay {
 public:
  TorusPlay(const GroupShape& shape, const Lane& along_row, const Lane& along_column)
      : shape_(shape), lanes_{along_row, along_row, along_column, along_column} {}

  // Seconds until all ranks are done. What rank 0 sends one way over the only link of a pair, its partner
  // sends the other way.
  double one_for_all(const Plan& plan, double bytes, Flow& flow) const {
    double time = 0;
    std::vector<schedule::Link> route;
    for (size_t at = 0; at < plan.moves.size();) {
      std::array<double, 4> sent{};
      std::array<bool, 4> used{};
      const int round = plan.moves[at].round;
      for (; at < plan.moves.size() && plan.moves[at].round == round; ++at) {
        const Move& move = plan.moves[at];
        if (move.receive) continue;
        route.clear();
        schedule::append_route(shape_, rank_, move.peer, route);
        const auto direction = static_cast<size_t>(route.front().direction);
        used[direction] = true;
        sent[direction] += bytes * static_cast<double>(chunks_of(move)) / static_cast<double>(plan.chunks);
      }
      double longest = 0;
      for (size_t d = 0; d < sent.size(); ++d) {
        if (!used[d]) continue;
        longest = std::max(longest, lanes_[d].latency.count() + sent[d] / lanes_[d].bytes_per_s);
        flow.bytes[d] += sent[d];
        flow.busy[d] += sent[d] / lanes_[d].bytes_per_s;
      }
      time += longest;
    }
    for (const size_t d : {size_t{0}, size_t{2}}) {
      if ((d == 0 ? shape_.columns : shape_.rows) != 2) continue;
      flow.busy[d] = flow.busy[d + 1] = flow.busy[d] + flow.busy[d + 1];
      flow.bytes[d] = flow.bytes[d + 1] = (flow.bytes[d] + flow.bytes[d + 1]) / 2;
    }
    return time;
  }

  double all_ranks(const std::vector<Plan>& plans, double bytes, Flow& flow) const {
    const PlayedMessages played = play_messages(shape_, plans, bytes, lanes_);
    for (size_t index = 0; index < played.carried.size(); ++index) {
      const size_t direction = index % 4;
      flow.busy[direction] =
          std::max(flow.busy[direction], played.carried[index] / lanes_[direction].bytes_per_s);
      flow.bytes[direction] += played.carried[index] / static_cast<double>(shape_.size());
    }
    return played.seconds;
  }

 private:
  GroupShape shape_;
  int rank_ = 0;
  std::array<Lane, 4> lanes_;  // by schedule::Direction
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
                   const Lane& along_row, const Lane& along_column, int round) {
  Flow flow, empty;
  const TorusPlay play(shape, along_row, along_column);
  const Plan plan = plan_of(algorithm, operation, shape, 0, round);
  if (algorithm->alike != nullptr && algorithm->alike(shape)) {
    flow.latency = Seconds(play.one_for_all(plan, 0, empty));
    flow.transfer = Seconds(play.one_for_all(plan, bytes, flow)) - flow.latency;
    return flow;
  }
  if (plan.moves.size() * static_cast<size_t>(shape.size()) > kMostMoves) {
    const double most = schedule::most_link_bytes(algorithm, operation, shape, bytes);
    flow.latency = plan.rounds * std::max(along_row.latency, along_column.latency);
    flow.transfer = Seconds(most / std::min(along_row.bytes_per_s, along_column.bytes_per_s));
    flow.busy = {flow.transfer.count(), flow.transfer.count(), flow.transfer.count(), flow.transfer.count()};
    flow.bytes = {most, most, most, most};
    return flow;
  }
  std::vector<Plan> plans;
  plans.reserve(static_cast<size_t>(shape.size()));
  for (int rank = 0; rank < shape.size(); ++rank)
    plans.push_back(plan_of(algorithm, operation, shape, rank, round));
  flow.latency = Seconds(play.all_ranks(plans, 0, empty));
  flow.transfer = Seconds(play.all_ranks(plans, bytes, flow)) - flow.latency;
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
      (move.receive ? received : sent) +=
          bytes * static_cast<double>(chunks_of(move)) / static_cast<double>(plan.chunks);
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
  const size_t columns = dimensions.back(),
               rows = dimensions[dimensions.size() < 2 ? 0 : dimensions.size() - 2];
  Lane down = lane(rows, axis);
  double outer_share = 0;  // of the rows' messages that go along the first of three dimensions
  if (dimensions.size() == 3) {
    // Two dimensions are one ring in the order of the ranks: each pass over the inner one ends in a step
    // along the outer one and all the way back on the inner one, by its wrap or past all others.
    const mesh::Mesh::Dimension& inner = mesh_.torus()[rows];
    const int length = parts_of(inner, axis);
    const bool closed = schedule::is_ring(length, inner.wraps);
    outer_share = 1.0 / length;
    const double back = closed ? 1 : length - 1;
    const Lane outer = lane(dimensions[0], axis);
    down.latency += outer_share * (outer.latency + (back - 1) * down.latency);
    down.bytes_per_s = std::min(down.bytes_per_s / (closed ? 1 : 2), outer.bytes_per_s);
  }
  const Flow flow = play_on_torus(algorithm_of(info), operation_of(info.operation), shape,
                                  array_bytes(info, shape), lane(columns, axis), down, info.round);
  out.latency = flow.latency;
  out.transfer = flow.transfer;
  // By direction of the shape: right and left along the last dimension, down and up along the one before. A
  // message between neighbours that lie apart is sent on by the chips between them.
  const auto add = [&](size_t dimension, size_t direction, double share) {
    const int apart = axis == mesh::Axis::data ? mesh_.torus()[dimension].model_parts : 1;
    out.busy[2 * dimension + direction % 2] = flow.busy[direction];
    out.bytes[2 * dimension + direction % 2] = flow.bytes[direction] * apart * share;
  };
  for (size_t d = 0; d < 4; ++d) {
    if (d < 2) add(columns, d, 1);
    if (d >= 2 && dimensions.size() > 1) add(rows, d, 1);
    if (d >= 2 && dimensions.size() == 3) add(dimensions[0], d, outer_share);
  }
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
  if (axis == mesh::Axis::pod || topology_.is_switch) {
    const bool between_pods = axis == mesh::Axis::pod;
    const Lane port = between_pods ? Lane{bytes_per_s(kBetweenPods), host_.message_latency}
                                   : Lane{bytes_per_s(0), topology_.hop_latency};
    out = play_on_switch(algorithm_of(info), operation_of(info.operation), info.ranks,
                         array_bytes(info, {1, info.ranks}), port, info.round);
    if (between_pods) {
      std::swap(out.busy[0], out.busy[kBetweenPods]);
      std::swap(out.bytes[0], out.bytes[kBetweenPods]);
    }
  } else {
    out = on_torus(info, axis);
  }
  out.latency += constants_.collective_overhead;
  return out;
}

const Flow& Network::flow(const CollectiveInfo& info) {
  const std::tuple key{info.operation, info.axis, info.method, info.wire_bytes, info.round};
  const auto found = flows_.find(key);
  return found != flows_.end() ? found->second : flows_.emplace(key, make(info)).first->second;
}

}  // namespace toroid::sim
