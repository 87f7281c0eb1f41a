// What a collective asks of simulated links: its schedule is played on the links of the chips' torus, or on
// the way between pods, with nothing else under way. Which collectives then share links is the player's to
// say.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "core/device/sim/chip.h"
#include "core/device/transfer.h"
#include "parallel/mesh/mesh.h"
#include "parallel/schedule/links.h"

namespace toroid::sim {

// Links as one chip that stands for all sees them: both directions of each dimension of the torus, and the
// way to other pods. A switch is one dimension whose chips have one port each.
inline constexpr int kDimensions = 3;
inline constexpr int kBetweenPods = 2 * kDimensions;
inline constexpr int kLinks = kBetweenPods + 1;
std::string link_name(int link);  // "torus 0 +", "between pods"

// A collective takes alone() on free links. While it shares them the transfer alone grows: the links carry
// all of its bytes in any case, and hops are under way beside them.
struct Flow {
  Seconds latency{0};                  // starting, and what hops and messages take beyond the transfer
  Seconds transfer{0};                 // its bytes, with the links to itself
  std::array<double, kLinks> busy{};   // seconds that the busiest link of a kind carries bytes
  std::array<double, kLinks> bytes{};  // that a chip sends over it, on average
  Seconds lost{0};                     // by operators that run meanwhile, where the same cores move the bytes
  Seconds alone() const { return latency + transfer; }
};

// One way for bytes.
struct Lane {
  double bytes_per_s = 0;
  Seconds latency{0};  // of a hop, or of a message through a switch
};

// Along a row, along a column, between planes.
using Lanes = std::array<Lane, kDimensions>;

// The schedule of `operation` on an array of `bytes`, all ranks at once, over the links of `shape`; of that
// the round `round` alone where it is not negative. flow.busy and .bytes are by schedule::Direction.
//
// Where neighbours hand on what comes, they do so from the first byte, so that a chunk is on its next hop
// while its rest comes. On rings of n_i ranks, with V bytes of the whole array, W bytes/s of a link both ways
// and n ranks in all, an all_gather or a reduce_scatter takes
//
//   max(hop * sum(n_i) / 2, (n - 1)/n V / (W * dimensions))
//
// and an all_reduce twice that (jax-ml/scaling-book, sharding.md); without a wrap n_i - 1 hops, at the
// one-way rate. As there, nothing is counted of the last piece's way to the last rank: at most a hop, or what
// one rank's piece takes. Other algorithms play message by message (message_play.h).
Flow play_on_torus(schedule::Algorithm algorithm, schedule::Operation operation,
                   const schedule::GroupShape& shape, double bytes, const Lanes& lanes, int round = -1);
// The same where every rank has one port to a switch; link 0 is the port. What comes by a switch is handed on
// once all of it is there: a round takes its latency and its bytes.
Flow play_on_switch(schedule::Algorithm algorithm, schedule::Operation operation, int ranks, double bytes,
                    const Lane& port, int round = -1);

class Network {
 public:
  // UserError where the chip's pods have no room for the mesh.
  Network(const mesh::Mesh& mesh, const Chip& chip);
  // With the wraps and links of the chip's topology.
  const mesh::Mesh& mesh() const { return mesh_; }
  // What a collective on one axis of the mesh asks of the links. Every flow is computed once.
  const Flow& flow(const CollectiveInfo& info);
  // A link of a dimension of the mesh's torus has only a share of its bandwidth left, and every ring over it
  // waits for it; with none left the dimension does not wrap. Before any flow.
  void weaken(int dimension, double share);
  const HostLinks& host() const { return host_; }
  // What a link carries in a second.
  double bytes_per_s(int link) const;

 private:
  Flow make(const CollectiveInfo& info) const;
  Flow on_torus(const CollectiveInfo& info, mesh::Axis axis) const;
  Flow between_pods(const CollectiveInfo& info) const;
  Lane lane(size_t dimension, mesh::Axis axis) const;

  mesh::Mesh mesh_;
  Topology topology_;
  HostLinks host_;
  ChipConstants constants_;
  std::array<double, kDimensions> shares_{1, 1, 1};  // of the bandwidth that the dimensions have
  std::optional<MeasuredMachine> measured_;
  // Asked for with every transfer of every chip: compared without making strings, what differs most first.
  std::map<std::tuple<int64_t, int, std::string, std::string, std::string>, Flow, std::less<>> flows_;
};

}  // namespace toroid::sim
