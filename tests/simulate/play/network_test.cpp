// Collectives on simulated links against closed forms. Legend: n ranks, V bytes of the whole array, w bytes/s
// of a link one way, W = 2 w both ways, h seconds a hop.
#include "simulate/play/network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "core/base/error.h"
#include "parallel/comm/round_by_round.h"
#include "tests/parallel/schedule/in_turns.h"
#include "tests/simulate/play/message.h"
#include "tests/simulate/play/simulated_chip.h"

namespace toroid::sim {
namespace {

using schedule::Algorithm;
using schedule::GroupShape;
using schedule::Operation;

constexpr double kBytes = 1e6;  // V
const Lane kLane{kRate, Seconds(kHop)};

const Lanes kLanes = {kLane, kLane, kLane};

Flow on_torus(Algorithm algorithm, Operation operation, const GroupShape& shape, double bytes = kBytes,
              int round = -1) {
  return play_on_torus(algorithm, operation, shape, bytes, kLanes, round);
}

void expect_sum(const Flow& flow, double latency, double transfer) {
  EXPECT_NEAR(flow.latency.count(), latency, 1e-12);
  EXPECT_NEAR(flow.transfer.count(), transfer, 1e-9 * transfer);
}

// Hops and bytes are under way together.
void expect_longer(const Flow& flow, double hops, double transfer) {
  EXPECT_NEAR(flow.alone().count(), std::max(hops, transfer), 1e-12);
  EXPECT_NEAR(flow.transfer.count(), transfer, 1e-9 * transfer);
}

// Of arrays that are bound by hops, by bytes, and by both: `share` of the array goes over the busiest link.
void expect_longer(Algorithm algorithm, Operation operation, const GroupShape& shape, int hops,
                   double share) {
  for (const double bytes : {0.0, kBytes, hops * kHop * kRate / share}) {
    SCOPED_TRACE(std::string(name(operation)) + " of " + std::to_string(bytes));
    expect_longer(on_torus(algorithm, operation, shape, bytes), hops * kHop, bytes * share / kRate);
  }
}

CollectiveInfo note_of(const std::string& operation, const std::string& axis, int ranks, Algorithm way,
                       double bytes = kBytes) {
  CollectiveInfo info;
  info.operation = operation;
  info.axis = axis;
  info.bytes = info.wire_bytes = static_cast<int64_t>(bytes);
  info.ranks = ranks;
  info.method = name(way);
  return info;
}

// max(floor(n / 2) h, (n - 1)/n V/W); one way, all n - 1 hops and half the rate.
TEST(Network, WrappedRing) {
  for (const int n : {3, 4, 5, 8, 16}) {
    for (const GroupShape& shape : {GroupShape{1, n}, GroupShape{n, 1}}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.columns));
      const double share = (n - 1.0) / n / 2;
      expect_longer(Algorithm::bidirectional_ring, Operation::all_gather, shape, n / 2, share);
      expect_longer(Algorithm::bidirectional_ring, Operation::reduce_scatter, shape, n / 2, share);
      expect_longer(Algorithm::bidirectional_ring, Operation::all_reduce, shape, 2 * (n / 2), 2 * share);
      expect_longer(Algorithm::ring, Operation::all_gather, shape, n - 1, 2 * share);
    }
  }
}

// Both axes at once: (n - 1)/n V/(2 W) on a square of n chips, in twice half a side of hops.
TEST(Network, WrappedTorus) {
  for (const int side : {3, 4, 8, 16}) {
    SCOPED_TRACE(side);
    const int n = side * side;
    const double share = (n - 1.0) / n / 4;
    const GroupShape shape{side, side};
    expect_longer(Algorithm::torus, Operation::all_gather, shape, 2 * (side / 2), share);
    expect_longer(Algorithm::torus, Operation::reduce_scatter, shape, 2 * (side / 2), share);
    expect_longer(Algorithm::torus, Operation::all_reduce, shape, 4 * (side / 2), 2 * share);
  }
}

// All three axes at once.
TEST(Network, WrappedCube) {
  for (const int side : {3, 4, 8}) {
    SCOPED_TRACE(side);
    const int n = side * side * side;
    const double share = (n - 1.0) / n / 6;
    const GroupShape shape{side, side, true, true, side, true};
    expect_longer(Algorithm::torus, Operation::all_gather, shape, 3 * (side / 2), share);
    expect_longer(Algorithm::torus, Operation::reduce_scatter, shape, 3 * (side / 2), share);
    expect_longer(Algorithm::torus, Operation::all_reduce, shape, 6 * (side / 2), 2 * share);
  }
}

// Where the dimensions differ, a chunk still goes half round each of them, and the links of the longest one
// carry the most: of 4 n pieces one rank's from 7 ranks, and a column's of 4.
TEST(Network, OblongTorus) {
  const double pieces = 4.0 * 4 * 8;
  expect_longer(Algorithm::torus, Operation::all_gather, {4, 8}, 4 + 2, (7 + 7 * 4) / pieces);
  const Flow flow = on_torus(Algorithm::torus, Operation::all_gather, {4, 8});
  EXPECT_NEAR(flow.bytes[0], kBytes * (7 + 7 * 4) / pieces, 1e-6);
  EXPECT_NEAR(flow.bytes[2], kBytes * (3 + 3 * 8) / pieces, 1e-6);
  // Of v5p's pod, within 2 % of V / (W * 3).
  const GroupShape pod{20, 28, true, true, 16, true};
  const Flow whole = on_torus(Algorithm::torus, Operation::all_gather, pod);
  EXPECT_NEAR(whole.transfer.count(), kBytes / (2 * kRate) / 3, 0.02 * kBytes / (2 * kRate) / 3);
}

// n - 1 hops of V/n at the one-way rate: twice the wrapped ring.
TEST(Network, Line) {
  for (const int n : {2, 4, 8, 15}) {
    SCOPED_TRACE(n);
    const GroupShape line{1, n, true, false};
    const double share = (n - 1.0) / n;
    expect_longer(Algorithm::bidirectional_ring, Operation::all_gather, line, n - 1, share);
    expect_longer(Algorithm::bidirectional_ring, Operation::reduce_scatter, line, n - 1, share);
    expect_longer(Algorithm::bidirectional_ring, Operation::all_reduce, line, 2 * (n - 1), 2 * share);
  }
}

// Issued round by round a collective takes what it takes as one, on rings, on lines, and by a switch. Where
// the last round of an even ring, half as large, is bound by its hop and the others are not, that is less
// than half a hop more.
TEST(Network, RoundsAddUpToTheWhole) {
  for (const int n : {2, 3, 4, 5, 8, 16}) {
    for (const bool wraps : {true, false}) {
      for (const Operation operation : {Operation::all_gather, Operation::reduce_scatter}) {
        SCOPED_TRACE(std::to_string(n) + (wraps ? " on a ring, " : " on a line, ") +
                     std::string(name(operation)));
        const GroupShape shape{1, n, true, wraps};
        const Algorithm algorithm = n == 2 ? Algorithm::direct : Algorithm::bidirectional_ring;
        const Flow whole = on_torus(algorithm, operation, shape);
        const Flow by_switch = play_on_switch(algorithm, operation, n, kBytes, kLane);
        Flow sum, switched;
        const int rounds = schedule::plan(algorithm, operation, shape, 0).rounds;
        for (int round = 0; round < rounds; ++round) {
          const Flow one = on_torus(algorithm, operation, shape, kBytes, round);
          sum.latency += one.latency, sum.transfer += one.transfer;
          for (size_t link = 0; link < sum.bytes.size(); ++link) sum.bytes[link] += one.bytes[link];
        }
        for (const double bytes : {0.0, 1e2, 1e3, 1e4, 1e5}) {
          Seconds all{0};
          for (int round = 0; round < rounds; ++round)
            all += on_torus(algorithm, operation, shape, bytes, round).alone();
          const Seconds at_once = on_torus(algorithm, operation, shape, bytes).alone();
          EXPECT_GE(all.count(), at_once.count() - 1e-12) << bytes;
          EXPECT_LE(all.count(), at_once.count() + kHop / 2) << bytes;
        }
        for (int round = 0; round < schedule::plan(algorithm, operation, {1, n}, 0).rounds; ++round)
          switched.transfer += play_on_switch(algorithm, operation, n, kBytes, kLane, round).transfer;
        expect_sum(sum, whole.latency.count(), whole.transfer.count());
        EXPECT_NEAR(switched.transfer.count(), by_switch.transfer.count(), 1e-9);
        for (size_t link = 0; link < sum.bytes.size(); ++link)
          EXPECT_NEAR(sum.bytes[link], whole.bytes[link], 1e-6);
      }
    }
  }
}

// A round as the communicator says it: its share of the bytes, and the sum behind it takes nothing.
TEST(Network, ARoundOfACollective) {
  Network network(mesh_of("torus: [16] data: 1 model: 16"), chip_of());
  CollectiveInfo whole = note_of("all_gather", "model", 16, Algorithm::bidirectional_ring, 16000);
  CollectiveInfo round = whole;
  round.bytes = round.wire_bytes = whole.bytes / 8;
  Seconds sum{0};
  for (round.round = 0; round.round < 8; ++round.round) sum += network.flow(round).alone();
  EXPECT_NEAR(sum.count(), network.flow(whole).alone().count(), 1e-12);
  round.operation = kSum;
  EXPECT_EQ(network.flow(round).alone().count(), 0);
}

// The second dimension of 8x16 wraps: the ends of the first carry all of a line's both ways.
TEST(Network, OneDimensionWrapped) {
  const GroupShape shape{8, 16, false, true};
  const Flow flow = on_torus(Algorithm::torus, Operation::all_gather, shape);
  const double pieces = 4.0 * 8 * 16;
  const double busiest = kBytes / kRate * (7 * 2 + 7 * 32) / pieces;
  const double rounds_apart = kBytes / kRate * (7 * 2 + 1 + 7 * 32 + 8) / pieces;
  EXPECT_NEAR(on_torus(Algorithm::torus, Operation::all_gather, shape, 0).alone().count(), 2 * 8 * kHop,
              1e-12);
  EXPECT_GE(flow.transfer.count(), busiest);
  EXPECT_LE(flow.transfer.count(), rounds_apart * (1 + 1e-9));
  EXPECT_NEAR(*std::max_element(flow.busy.begin(), flow.busy.end()), busiest, 1e-9);
  EXPECT_GT(flow.transfer, on_torus(Algorithm::torus, Operation::all_gather, {8, 16}).transfer);
  const Flow open = on_torus(Algorithm::torus, Operation::all_gather, {16, 16, false, false});
  const Flow closed = on_torus(Algorithm::torus, Operation::all_gather, {16, 16});
  EXPECT_NEAR(open.transfer / closed.transfer, 2, 1e-9) << "without wraps it takes twice as long";
}

// The busiest link carries what the schedule's own formula says, and all links together what its plans send.
TEST(Network, BytesAreThoseOfTheSchedule) {
  int played = 0;
  for (const int rows : {1, 2, 3, 4, 6}) {
    for (const int columns : {1, 2, 3, 4, 8}) {
      for (int wraps = 0; wraps < 4; ++wraps) {
        const GroupShape shape{rows, columns, (wraps & 1) != 0, (wraps & 2) != 0};
        for (const Algorithm algorithm : schedule::all_algorithms()) {
          for (const Operation operation : schedule::kOperations) {
            if (shape.size() == 1 || !serves(algorithm, operation, shape)) continue;
            const std::string what = std::string(name(algorithm)) + " " + std::string(name(operation)) +
                                     " over " + std::to_string(rows) + " x " + std::to_string(columns) +
                                     ", wraps " + std::to_string(wraps);
            const Flow flow = on_torus(algorithm, operation, shape);
            const double most = most_link_bytes(algorithm, operation, shape, kBytes);
            EXPECT_NEAR(*std::max_element(flow.busy.begin(), flow.busy.end()) * kRate, most, 1e-6 * kBytes)
                << what;
            EXPECT_GE(flow.alone().count(), most / kRate * (1 - 1e-9)) << what;
            const schedule::LinkTraffic traffic = count_traffic(algorithm, operation, shape);
            const double sent = kBytes *
                                static_cast<double>(std::accumulate(traffic.chunks.begin(),
                                                                    traffic.chunks.end(), int64_t{0})) /
                                static_cast<double>(traffic.array_chunks);
            EXPECT_NEAR(std::accumulate(flow.bytes.begin(), flow.bytes.end(), 0.0) * shape.size(), sent,
                        1e-6 * kBytes)
                << what;
            ++played;
          }
        }
      }
    }
  }
  EXPECT_GT(played, 1000);
}

// A quarter of an all_gather of the same array, of which each rank's input here is the n-th part. Exactly so
// but for (1 - 1/n^2) to (n - 1)/n where n is odd; where it is even, messages half way round all go the same
// way, which puts 1 + 2/n of that on one direction.
TEST(Network, AllToAllIsAQuarterOfAnAllGather) {
  for (const int n : {3, 5, 8, 15, 16}) {
    SCOPED_TRACE(n);
    const Flow flow = on_torus(Algorithm::direct, Operation::all_to_all, {1, n});
    const double whole = n * kBytes;
    const double share = n % 2 == 1 ? 1 - 1.0 / (n * n) : 1 + 2.0 / n;
    const double quarter = whole / (2 * kRate) / 4;
    EXPECT_NEAR(*std::max_element(flow.busy.begin(), flow.busy.end()), share * quarter, 1e-9 * quarter);
    EXPECT_NEAR(on_torus(Algorithm::direct, Operation::all_to_all, {1, n}, 0).alone().count(), n / 2 * kHop,
                1e-12);
    EXPECT_GE(flow.alone().count(), share * quarter * (1 - 1e-9));
    EXPECT_LE(flow.transfer.count(), 1.01 * share * quarter);
  }
}

TEST(Network, Switch) {
  for (const int n : {2, 4, 8}) {
    SCOPED_TRACE(n);
    const double transfer = kBytes * (n - 1) / n / kRate;
    const auto play = [&](Algorithm algorithm, Operation operation) {
      return play_on_switch(algorithm, operation, n, kBytes, kLane);
    };
    const int rounds = n == 2 ? 1 : n == 4 ? 2 : 3;
    expect_sum(play(Algorithm::ring, Operation::all_gather), (n - 1) * kHop, transfer);
    expect_sum(play(test::in_turns(), Operation::all_gather), n * kHop, 2 * transfer);
    expect_sum(play(Algorithm::bidirectional_ring, Operation::all_reduce), 2 * (n / 2) * kHop, 2 * transfer);
    expect_sum(play(Algorithm::halving_doubling, Operation::reduce_scatter), rounds * kHop, transfer);
    expect_sum(play(Algorithm::direct, Operation::all_to_all), kHop, transfer);
    EXPECT_NEAR(play(Algorithm::direct, Operation::all_gather).bytes[0], kBytes * (n - 1) / n, 1e-6);
  }
}

TEST(Network, ASwitchJoinsTheChipsOfItsPod) {
  const Chip chip = chip_of("switch { chips: 8 port_bytes_per_s: 1e9 latency_s: 1e-6 }");
  Network network(mesh_of("data: 4 model: 2 pods: 3"), chip);
  expect_sum(network.flow(note_of("all_gather", "data", 4, Algorithm::ring)), 3 * kHop,
             kBytes * 3 / 4 / kRate);
  EXPECT_THROW(Network(mesh_of("data: 16"), chip), UserError);
}

// Chip, PCIe, host, card: eight chips share two cards of 1e9 B/s, so each has a quarter of one.
TEST(Network, BetweenPods) {
  const auto flow = [](const std::string& host, int pods, const char* operation) {
    const Chip chip = chip_of(kTorus, host);
    Network network(mesh_of("data: 16 pods: " + std::to_string(pods)), chip);
    return network.flow(note_of(operation, "pod", pods, Algorithm::ring));
  };
  const std::string cards = "host { chips: 8 cards: 2 card_bytes_per_s: 1e9 ";
  for (const int pods : {2, 16}) {
    SCOPED_TRACE(pods);
    const double share = kBytes * (pods - 1) / pods;
    const Flow by_cards = flow(cards + "pcie_bytes_per_s: 4e9 }", pods, "all_gather");
    expect_sum(by_cards, 0, share / 0.25e9);
    EXPECT_NEAR(by_cards.busy[kBetweenPods], share / 0.25e9, 1e-12);
    EXPECT_NEAR(by_cards.bytes[kBetweenPods], share, 1e-6);
    EXPECT_EQ(by_cards.busy[0], 0) << "no link of the torus";
    expect_sum(flow(cards + "pcie_bytes_per_s: 4e9 }", pods, "all_reduce"), 0, 2 * share / 0.25e9);
    expect_sum(flow(cards + "pcie_bytes_per_s: 1e8 }", pods, "all_gather"), 0, share / 1e8);
    expect_sum(flow(cards + "pcie_bytes_per_s: 4e9 oversubscription: 2 }", pods, "all_gather"), 0,
               share / 0.125e9);
    // Once a collective, and once a step of the ring.
    const std::string slow = cards + "pcie_bytes_per_s: 4e9 message_latency_s: 1e-2 ring_step_s: 1e-4 }";
    expect_sum(flow(slow, pods, "all_gather"), 1e-2 + (pods - 1) * 1e-4, share / 0.25e9);
    expect_sum(flow(slow, pods, "all_reduce"), 1e-2 + 2 * (pods - 1) * 1e-4, 2 * share / 0.25e9);
  }
}

TEST(Network, AxesHaveTheirDimensionsLinks) {
  const Chip chip = chip_of();
  Network network(mesh_of("torus: [4, 8] data: 4 model: 8"), chip);
  const Flow data = network.flow(note_of("all_gather", "data", 4, Algorithm::bidirectional_ring));
  const Flow model = network.flow(note_of("all_gather", "model", 8, Algorithm::bidirectional_ring));
  expect_longer(data, 2 * kHop, kBytes * 3 / 4 / (2 * kRate));
  expect_longer(model, 4 * kHop, kBytes * 7 / 8 / (2 * kRate));
  for (const size_t link : {0, 1}) {
    EXPECT_NEAR(data.busy[link], data.transfer.count(), 1e-12) << link;
    EXPECT_NEAR(model.busy[link + 2], model.transfer.count(), 1e-12) << link;
    EXPECT_EQ(data.busy[link + 2], 0) << link;
    EXPECT_EQ(model.busy[link], 0) << link;
  }
}

// A model axis that is a run of 4 within a dimension of 16: its runs are lines with links of their own.
// Neighbours of the data axis are 4 chips apart, and 4 data groups have the same links.
TEST(Network, AnAxisThatIsARunWithinADimension) {
  const Chip chip = chip_of();
  Network network(mesh_of("torus: 16 data: 4 model: 4"), chip);
  const Flow model = network.flow(note_of("all_gather", "model", 4, Algorithm::bidirectional_ring));
  const Flow data = network.flow(note_of("all_gather", "data", 4, Algorithm::bidirectional_ring));
  expect_longer(model, 3 * kHop, kBytes * 3 / 4 / kRate);
  expect_longer(data, 2 * 4 * kHop, kBytes * 3 / 4 / (2 * kRate / 4));
  for (const size_t link : {0, 1}) {
    EXPECT_NEAR(data.busy[link], data.transfer.count(), 1e-12) << "of a link, by all four groups";
    EXPECT_NEAR(data.bytes[link], 4 * kBytes * 3 / 4 / 2, 1e-6) << "a chip passes on what it is no end of";
  }
}

// All of 4x4x4 on one axis: six links of a chip at once.
TEST(Network, ThreeDimensionsOfOneAxis) {
  const Chip chip = chip_of();
  Network network(mesh_of("torus: [4, 4, 4] data: 64"), chip);
  const Flow flow = network.flow(note_of("all_gather", "data", 64, Algorithm::torus));
  expect_longer(flow, 6 * kHop, kBytes * 63 / 64 / (6 * kRate));
  for (size_t link = 0; link < 6; ++link) {
    EXPECT_NEAR(flow.busy[link], flow.transfer.count(), 1e-12) << link_name(static_cast<int>(link));
    EXPECT_NEAR(flow.bytes[link], kBytes * 63 / 64 / 6, 1e-6);
  }
  // The dimensions of the torus are the shape's from the last one on, each with its own wrap and lane.
  const Chip open = chip_of(
      "torus { pod: 16 pod: 16 pod: 16 wrap: EXACTLY wrap_size: 4 link_bytes_per_s: 1e9 hop_latency_s: 1e-6 "
      "}");
  Network line(mesh_of("torus: [2, 4, 3] data: 24"), open);
  line.weaken(1, 0.5);
  const Flow back = line.flow(note_of("all_gather", "data", 24, Algorithm::torus));
  const Flow same = play_on_torus(Algorithm::torus, Operation::all_gather, {4, 3, true, false, 2, false},
                                  kBytes, {kLane, Lane{kRate / 2, Seconds(kHop)}, kLane});
  EXPECT_NEAR(back.alone() / same.alone(), 1, 1e-9);
  for (size_t way = 0; way < 2; ++way) {
    EXPECT_NEAR(back.busy[way], same.busy[4 + way], 1e-12);
    EXPECT_NEAR(back.busy[2 + way], same.busy[2 + way], 1e-12);
    EXPECT_NEAR(back.busy[4 + way], same.busy[way], 1e-12);
  }
}

// An axis of one, two and three dimensions has one, two and three times the bandwidth.
TEST(Network, EveryDimensionOfAnAxisAddsItsLinks) {
  const Chip chip = chip_of();
  const auto transfer = [&](const std::string& mesh, int ranks, Algorithm algorithm) {
    Network network(mesh_of(mesh), chip);
    return network.flow(note_of("all_gather", "data", ranks, algorithm)).transfer * ranks / (ranks - 1.0);
  };
  const Seconds one = transfer("torus: 16 data: 16", 16, Algorithm::bidirectional_ring);
  EXPECT_NEAR(one / transfer("torus: [16, 16] data: 256", 256, Algorithm::torus), 2, 1e-9);
  EXPECT_NEAR(one / transfer("torus: [16, 16, 16] data: 4096", 4096, Algorithm::torus), 3, 1e-9);
}

TEST(Network, AMessageTakesAllWaysThatShortenIt) {
  const Chip chip = chip_of();
  const Network network(mesh_of("torus: [3, 3] data: 9"), chip);
  expect_sum(message(network, chip, 0, 8, kBytes), 4 * kHop, kBytes / (2 * kRate));
  expect_sum(message(network, chip, 0, 2, kBytes), 2 * kHop, kBytes / kRate);
  expect_sum(message(network, chip, 4, 4, kBytes), 0, 0);
}

TEST(Network, RefusesWhatItHasNoLinksFor) {
  const Chip chip = chip_of();
  const auto refusal = [&](const std::string& mesh) -> std::string {
    try {
      Network(mesh_of(mesh), chip);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("torus: [16, 16, 16] data: 4096"), "");
  EXPECT_EQ(refusal("torus: [32, 4] data: 128"),
            "the mesh is pods 1 x torus 32 x 4, data 128, model 1, but a pod of chip round has 16 x 16 x 16 "
            "chips: a "
            "dimension of 32 does not fit on one of 16; choose a smaller mesh.torus and more mesh.pods");
  Network network(mesh_of("torus: [4, 4] data: 16"), chip);
  EXPECT_THROW(network.flow(note_of("all_gather", "all", 16, Algorithm::ring)), InternalError);
  EXPECT_THROW(network.flow(note_of("send to rank 3", "data", 16, Algorithm::ring)), InternalError);
  CollectiveInfo read = note_of("all_gather", "data", 16, Algorithm::ring);
  read.method = "read";
  EXPECT_THROW(network.flow(read), InternalError);
}

}  // namespace
}  // namespace toroid::sim
