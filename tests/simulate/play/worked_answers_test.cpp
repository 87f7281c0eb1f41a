// The scaling book's worked answers (jax-ml/scaling-book: tpus.md, sharding.md, training.md), within 5 %,
// with the nominal constants of configs/chips. The book takes a collective's volume factor (n - 1)/n as 1,
// and the longer of hops and transfer where schedules take both one after the other; each comparison says how
// it is made.
#include <gtest/gtest.h>

#include <string>

#include "core/device/sim/chip.pb.h"
#include "parallel/mesh/mesh.pb.h"
#include "simulate/play/chips.h"
#include "simulate/play/network.h"
#include "tests/simulate/play/message.h"
#include "train/config/reader.h"

namespace toroid::sim {
namespace {

using schedule::Algorithm;
using schedule::Operation;

Chip chip(const std::string& name) {
  return train::read_chip(name, "configs/any.textproto");
}

constexpr double kMicrosecond = 1e-6, kMillisecond = 1e-3;

void expect_within(double found, double expected, double tolerance = 0.05) {
  EXPECT_NEAR(found, expected, tolerance * expected);
}

// data x model chips on a torus; the data axis takes the first dimensions.
Network network_of(const Chip& chip, const std::vector<int>& torus, int data, int model) {
  config::MeshConfig mesh;
  for (const int size : torus) mesh.add_torus(size);
  mesh.set_data(data);
  mesh.set_model(model);
  return Network(mesh::Mesh(mesh), chip);
}

Flow all_gather(Network network, const std::string& axis, int ranks, Algorithm way, double bytes) {
  CollectiveInfo info;
  info.operation = "all_gather";
  info.axis = axis;
  info.method = name(way);
  info.ranks = ranks;
  info.bytes = info.wire_bytes = static_cast<int64_t>(bytes);
  return network.flow(info);
}

// 1. v5e 8x4, an all-gather over the axis of 4, which does not wrap: three hops of a quarter. With a wrap the
// book counts V/W; schedules leave out the quarter that is there already. Of the small array the book has
// three hops of 1 us; the schedule adds what its bytes take.
TEST(WorkedAnswers, AllGatherOnV5e) {
  const Chip v5e = chip("v5e");
  const Network network = network_of(v5e, {8, 4}, 8, 4);
  const double large = 2.0 * 2048 * 8192, small = 2.0 * 256 * 256;
  expect_within(all_gather(network, "model", 4, Algorithm::bidirectional_ring, large).alone().count(),
                560 * kMicrosecond);
  const Lane lane{v5e.topology.bytes_per_s, v5e.topology.hop_latency};
  const Flow wrapped =
      play_on_torus(Algorithm::bidirectional_ring, Operation::all_gather, {1, 4}, large, lane, lane);
  expect_within(wrapped.transfer.count() * 4 / 3, 377 * kMicrosecond);
  const Flow of_small = all_gather(network, "model", 4, Algorithm::bidirectional_ring, small);
  expect_within(of_small.latency.count(), 3 * kMicrosecond);
  EXPECT_LT(of_small.transfer, of_small.latency) << "bound by latency, as the book says";
}

// 2. v4 4x4x4, bf16[1024, 4096] sharded over X and Y: V/Y over one axis, V over two. (n - 1)/n of it moves.
TEST(WorkedAnswers, AllGatherOnV4) {
  const Chip v4 = chip("v4");
  const double bytes = 2.0 * 1024 * 4096;
  const Flow over_x =
      all_gather(network_of(v4, {4, 4, 4}, 4, 16), "data", 4, Algorithm::bidirectional_ring, bytes / 4);
  expect_within(over_x.transfer.count() * 4 / 3, 23 * kMicrosecond);
  const Flow over_xy = all_gather(network_of(v4, {4, 4, 4}, 16, 4), "data", 16, Algorithm::torus, bytes);
  expect_within(over_xy.transfer.count() * 16 / 15, 46 * kMicrosecond);
}

// 3. v5e 4x4, bf16[8, 128, 8192] from corner to corner: no wraps, so six hops, by two ports.
TEST(WorkedAnswers, AMessageOnV5e) {
  const Chip v5e = chip("v5e");
  const Flow flow = message(network_of(v5e, {4, 4}, 16, 1), v5e, 0, 15, 2.0 * 8 * 128 * 8192);
  expect_within(flow.latency.count(), 6 * kMicrosecond);
  expect_within(flow.transfer.count(), 188 * kMicrosecond);
  expect_within(flow.alone().count(), 194 * kMicrosecond);
}

// 4. What a v5e pod has in all.
TEST(WorkedAnswers, AV5ePod) {
  const Chip v5e = chip("v5e");
  const auto chips = static_cast<double>(v5e.topology.pod_chips());
  EXPECT_EQ(chips, 256);
  EXPECT_EQ(v5e.topology.pod_chips() / v5e.host.chips, 32);
  expect_within(chips * v5e.peak_flops_per_s.at(DType::bf16), 5.1e16);
  expect_within(chips * static_cast<double>(v5e.memory_bytes), 4e12);
}

// 5. int8 [B, 4096] x [4096, 16384]: the smallest B that is bound by FLOPs, with everything in HBM, and in
// VMEM.
TEST(WorkedAnswers, WhereProductsBecomeBoundByFlops) {
  const auto least_rows = [](Chip chip, double bytes_per_s) {
    chip.memory_bytes_per_s = bytes_per_s;
    int64_t rows = 1;
    const auto bound_by_memory = [&] {
      Cost cost;
      cost.products.push_back({rows, 16384, 4096, 1, DType::u8});
      cost.bytes_read = rows * 4096 + 4096 * 16384;
      cost.bytes_written = rows * 16384;
      return time_of(chip, cost).bound_by_memory();
    };
    while (bound_by_memory()) ++rows;
    return static_cast<double>(rows);
  };
  const Chip v5e = chip("v5e");
  expect_within(least_rows(v5e, v5e.memory_bytes_per_s), 271);
  expect_within(least_rows(v5e, v5e.on_chip_bytes_per_s), 11);
}

// 6. 16e9 bytes of int8 from the hosts of a v5e 4x4 to one chip, times bf16[8, ...]: by PCIe, of which the
// answer takes 15e9 bytes/s a chip though its table says 16; by two ports of the corner, which has a
// sixteenth already; from HBM; and the product.
TEST(WorkedAnswers, AMatrixFromHostMemory) {
  const Chip v5e = chip("v5e");
  const double bytes = 16e9;
  config::ChipConfig file;
  config::read_text(read_file("configs/chips/v5e.textproto", 1 << 20), "v5e", file);
  expect_within(bytes / 16 / file.host().pcie_bytes_per_s() * 16 / 15, 66 * kMillisecond);
  const Network network = network_of(v5e, {4, 4}, 16, 1);
  expect_within(bytes * 15 / 16 / (2 * network.bytes_per_s(0)), 167 * kMillisecond);
  Cost cost;
  cost.bytes_read = static_cast<int64_t>(bytes);
  expect_within(time_of(v5e, cost).total.count(), 19 * kMillisecond);
  // 16e9 weights of about 126491 x 126491, laid out as one product without padding.
  Cost product;
  product.products.push_back({8, 128 * 1000, 125 * 1000, 1, DType::bf16});
  expect_within(time_of(v5e, product).products.count() * v5e.shape_efficiency(product.products[0]),
                1.3 * kMillisecond);
}

// 7. 6 N FLOPs a token at 40 % of the peak of v5p.
TEST(WorkedAnswers, LlamasOnV5p) {
  const Chip v5p = chip("v5p");
  const double useful = 0.4 * v5p.peak_flops_per_s.at(DType::bf16);
  expect_within(6 * 13.1e9 * 3e6 / (16 * 16 * 16 * useful), 0.3);
  EXPECT_EQ(v5p.topology.pod_chips(), 8960);
  expect_within(6 * 70e9 * 15e12 / (8960 * useful), 44.0 * 86400);
}

}  // namespace
}  // namespace toroid::sim
