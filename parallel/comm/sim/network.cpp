#include "parallel/comm/sim/network.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "parallel/schedule/algorithms.h"

namespace toroid::sim {
namespace {

using schedule::Algorithm;
using schedule::GroupShape;
using schedule::Move;
using schedule::Operation;
using schedule::Plan;

// Above it, ranks of a group that are not all alike are not played one by one: bytes over the busiest link
// and a hop a round.
constexpr int kMostPlayed = 1024;

int64_t chunks_of(const Move& move) {
  return move.count * move.blocks;
}

bool closed(int size, bool wrap) {
  return size <= 2 || schedule::is_ring(size, wrap);
}

// All ranks do the same at the same time, each with its neighbours.
bool alike(Algorithm algorithm, const GroupShape& shape) {
  const bool neighbours = algorithm == Algorithm::ring || algorithm == Algorithm::bidirectional_ring ||
                          algorithm == Algorithm::torus;
  return neighbours && closed(shape.rows, shape.wrap_rows) && closed(shape.columns, shape.wrap_columns) &&
         (shape.rows == 1 || shape.columns == 1 || algorithm == Algorithm::torus);
}

class TorusPlay {
 public:
  TorusPlay(const GroupShape& shape, const Lane& along_row, const Lane& along_column)
      : shape_(shape), lanes_{along_row, along_row, along_column, along_column} {}

  // Seconds until all ranks are done.
  double one_for_all(const Plan& plan, double bytes, Flow& flow) const {
    double time = 0;
    std::vector<schedule::Link> route;
    for (size_t at = 0; at < plan.moves.size();) {
      std::array<double, 4> sent{};
      const int round = plan.moves[at].round;
      for (; at < plan.moves.size() && plan.moves[at].round == round; ++at) {
        const Move& move = plan.moves[at];
        if (move.receive) continue;
        route.clear();
        schedule::append_route(shape_, rank_, move.peer, route);
        sent[static_cast<size_t>(route.front().direction)] +=
            bytes * static_cast<double>(chunks_of(move)) / static_cast<double>(plan.chunks);
      }
      double longest = 0;
      for (size_t d = 0; d < sent.size(); ++d) {
        if (sent[d] == 0 && bytes > 0) continue;
        longest = std::max(longest, lanes_[d].latency.count() + sent[d] / lanes_[d].bytes_per_s);
        flow.bytes[d] += sent[d];
        flow.busy[d] += sent[d] / lanes_[d].bytes_per_s;
      }
      time += longest;
    }
    return time;
  }

  // Messages take their links one after the other; a rank's next round waits for the moves of this one.
  double all_ranks(const std::vector<Plan>& plans, double bytes, Flow& flow) {
    struct Send {
      int from, to;
      double bytes;
    };
    std::vector<std::vector<Send>> rounds;
    for (size_t rank = 0; rank < plans.size(); ++rank) {
      rounds.resize(std::max(rounds.size(), static_cast<size_t>(plans[rank].rounds)));
      for (const Move& move : plans[rank].moves) {
        if (move.receive) continue;
        rounds[static_cast<size_t>(move.round)].push_back(
            {static_cast<int>(rank), move.peer,
             bytes * static_cast<double>(chunks_of(move)) / static_cast<double>(plans[rank].chunks)});
      }
    }
    std::vector<double> ready(plans.size(), 0.0), next;
    std::vector<double> free(static_cast<size_t>(schedule::link_count(shape_)), 0.0),
        carried(free.size(), 0.0);
    std::vector<schedule::Link> route;
    for (std::vector<Send>& round : rounds) {
      // Who is ready first takes a link first.
      std::stable_sort(round.begin(), round.end(), [&](const Send& a, const Send& b) {
        return ready[static_cast<size_t>(a.from)] < ready[static_cast<size_t>(b.from)];
      });
      next = ready;
      for (const Send& send : round) {
        route.clear();
        schedule::append_route(shape_, send.from, send.to, route);
        double head = ready[static_cast<size_t>(send.from)], tail = head;
        for (const schedule::Link& link : route) {
          const Lane& lane = lanes_[static_cast<size_t>(link.direction)];
          const auto index = static_cast<size_t>(schedule::link_index(link));
          const double seconds = send.bytes / lane.bytes_per_s;
          head = std::max(head, free[index]);
          free[index] = head + seconds;
          carried[index] += send.bytes;
          head += lane.latency.count();
          tail = head + seconds;
        }
        next[static_cast<size_t>(send.from)] =
            std::max(next[static_cast<size_t>(send.from)],
                     free[static_cast<size_t>(schedule::link_index(route.front()))]);
        next[static_cast<size_t>(send.to)] = std::max(next[static_cast<size_t>(send.to)], tail);
      }
      ready.swap(next);
    }
    for (size_t index = 0; index < carried.size(); ++index) {
      const size_t direction = index % 4;
      flow.busy[direction] = std::max(flow.busy[direction], carried[index] / lanes_[direction].bytes_per_s);
      flow.bytes[direction] += carried[index] / static_cast<double>(shape_.size());
    }
    return ready.empty() ? 0 : *std::max_element(ready.begin(), ready.end());
  }

 private:
  GroupShape shape_;
  int rank_ = 0;
  std::array<Lane, 4> lanes_;  // by schedule::Direction
};

Operation operation_of(const std::string& name) {
  if (name == "barrier") return Operation::all_reduce;
  for (const Operation operation : schedule::kOperations) {
    if (name == schedule::name(operation)) return operation;
  }
  throw InternalError("the simulated network knows no " + name);
}

Algorithm algorithm_of(const CollectiveNote& note) {
  for (const Algorithm algorithm : schedule::kAlgorithms) {
    if (note.way == schedule::name(algorithm)) return algorithm;
  }
  throw InternalError("a simulated " + note.operation + " goes by messages, not by " + note.way);
}

// The dimensions of the torus that an axis has parts of, the last two where there are three.
std::vector<int> dimensions_of(const mesh::Mesh& mesh, const std::string& axis) {
  std::vector<int> out;
  for (size_t i = 0; i < mesh.torus().size(); ++i) {
    const mesh::Mesh::Dimension& dimension = mesh.torus()[i];
    const int parts = axis == "model" ? dimension.model_parts : dimension.data_parts;
    if (parts > 1) out.push_back(static_cast<int>(i));
  }
  return out;
}

}  // namespace

std::string link_name(int link) {
  if (link == kBetweenPods) return "between pods";
  return "torus " + std::to_string(link / 2) + (link % 2 == 0 ? " +" : " -");
}

Flow play_on_torus(Algorithm algorithm, Operation operation, const GroupShape& shape, double bytes,
                   const Lane& along_row, const Lane& along_column) {
  Flow flow, empty;
  TorusPlay play(shape, along_row, along_column);
  if (alike(algorithm, shape)) {
    const Plan plan = schedule::plan(algorithm, operation, shape, 0);
    flow.latency = Seconds(play.one_for_all(plan, 0, empty));
    flow.transfer = Seconds(play.one_for_all(plan, bytes, flow)) - flow.latency;
    return flow;
  }
  if (shape.size() > kMostPlayed) {
    const Plan plan = schedule::plan(algorithm, operation, shape, 0);
    const double most = schedule::most_link_bytes(algorithm, operation, shape, bytes);
    flow.latency = plan.rounds * std::max(along_row.latency, along_column.latency);
    flow.transfer = Seconds(most / std::min(along_row.bytes_per_s, along_column.bytes_per_s));
    flow.busy = {flow.transfer.count(), flow.transfer.count(), flow.transfer.count(), flow.transfer.count()};
    flow.bytes = {most, most, most, most};
    return flow;
  }
  std::vector<Plan> plans;
  for (int rank = 0; rank < shape.size(); ++rank)
    plans.push_back(schedule::plan(algorithm, operation, shape, rank));
  flow.latency = Seconds(play.all_ranks(plans, 0, empty));
  flow.transfer = Seconds(play.all_ranks(plans, bytes, flow)) - flow.latency;
  return flow;
}

Flow play_on_switch(Algorithm algorithm, Operation operation, int ranks, double bytes, const Lane& port) {
  Flow flow;
  const Plan plan = schedule::plan(algorithm, operation, {1, ranks}, 0);
  for (size_t at = 0; at < plan.moves.size();) {
    double sent = 0, received = 0;
    const int round = plan.moves[at].round;
    for (; at < plan.moves.size() && plan.moves[at].round == round; ++at) {
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

Lane Network::lane(int dimension) const {
  return {bytes_per_s(0) * shares_.at(static_cast<size_t>(dimension)), topology_.hop_latency};
}

Flow Network::make(const CollectiveNote& note) const {
  if (measured_) {
    Flow out;
    out.transfer = measured_->collective_time(note.operation, note.way, note.ranks, note.wire_bytes);
    out.lost = measured_->lost(out.transfer);
    out.busy[0] = out.transfer.count();
    out.bytes[0] = static_cast<double>(note.wire_bytes);
    return out;
  }
  const Operation operation = operation_of(note.operation);
  const Algorithm algorithm = algorithm_of(note);
  const auto bytes = static_cast<double>(note.wire_bytes);
  Flow out;
  if (note.axis == mesh::name(mesh::Axis::pod)) {
    const Flow flow = play_on_switch(algorithm, operation, note.ranks, bytes,
                                     {bytes_per_s(kBetweenPods), host_.message_latency});
    out = flow;
    out.busy = out.bytes = {};
    out.busy[kBetweenPods] = flow.busy[0];
    out.bytes[kBetweenPods] = flow.bytes[0];
  } else if (topology_.is_switch) {
    out = play_on_switch(algorithm, operation, note.ranks, bytes, lane(0));
  } else {
    const mesh::Axis axis = note.axis == mesh::name(mesh::Axis::model) ? mesh::Axis::model : mesh::Axis::data;
    const std::vector<int> dimensions = dimensions_of(mesh_, note.axis);
    const auto lane_of = [&](size_t back) {
      return lane(dimensions.size() >= back ? dimensions[dimensions.size() - back] : 0);
    };
    const Flow flow = play_on_torus(algorithm, operation, mesh_.shape(axis), bytes, lane_of(1), lane_of(2));
    out = flow;
    out.busy = out.bytes = {};
    // The shape's columns lie along the last of the axis' dimensions, its rows along the one before.
    for (size_t d = 0; d < 4; ++d) {
      const size_t back = d < 2 ? 1 : 2;
      if (dimensions.size() < back) continue;
      const auto link = static_cast<size_t>(2 * dimensions[dimensions.size() - back]) + d % 2;
      out.busy[link] = flow.busy[d];
      out.bytes[link] = flow.bytes[d];
    }
  }
  out.latency += constants_.collective_overhead;
  return out;
}

const Flow& Network::flow(const CollectiveNote& note) {
  const std::tuple key{note.operation, note.axis, note.way, note.wire_bytes};
  const auto found = flows_.find(key);
  return found != flows_.end() ? found->second : flows_.emplace(key, make(note)).first->second;
}

Flow Network::message(int from, int to, double bytes) const {
  Flow out;
  const std::vector<int> hops = mesh_.hops(from, to);
  int ways = 0, length = 0;
  for (const int count : hops) {
    ways += count > 0 ? 1 : 0;
    length += count;
  }
  if (ways == 0) return out;
  out.latency = length * topology_.hop_latency;
  out.transfer = Seconds(bytes / (ways * bytes_per_s(0)));
  for (size_t i = 0; i < hops.size(); ++i) {
    if (hops[i] == 0) continue;
    out.busy[2 * i] = out.transfer.count();
    out.bytes[2 * i] = bytes / ways;
  }
  return out;
}

}  // namespace toroid::sim
