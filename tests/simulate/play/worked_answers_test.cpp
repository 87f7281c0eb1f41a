// The scaling book's worked answers about chips and whole models (jax-ml/scaling-book: tpus.md, training.md),
// within 5 %, with the nominal constants of configs/chips. Those about collectives are in
// scaling_book_test.cpp.
#include <gtest/gtest.h>

#include <string>

#include "core/device/sim/chip.pb.h"
#include "parallel/mesh/mesh.pb.h"
#include "simulate/play/chips.h"
#include "simulate/play/network.h"
#include "train/config/reader.h"

namespace toroid::sim {
namespace {

Chip chip(const std::string& name) {
  return train::read_chip(name, "configs/any.textproto");
}

constexpr double kMillisecond = 1e-3;

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

// 1. What a v5e pod has in all.
TEST(WorkedAnswers, AV5ePod) {
  const Chip v5e = chip("v5e");
  const auto chips = static_cast<double>(v5e.topology.pod_chips());
  EXPECT_EQ(chips, 256);
  EXPECT_EQ(v5e.topology.pod_chips() / v5e.host.chips, 32);
  expect_within(chips * v5e.peak_flops_per_s.at(DType::bf16), 5.1e16);
  expect_within(chips * static_cast<double>(v5e.memory_bytes), 4e12);
}

// 2. int8 [B, 4096] x [4096, 16384]: the smallest B that is bound by FLOPs, with everything in HBM, and in
// VMEM; of products at the peak, as the book has them: arrays take a weight's load for fewer than 128 rows.
TEST(WorkedAnswers, WhereProductsBecomeBoundByFlops) {
  const auto least_rows = [](Chip chip, double bytes_per_s) {
    chip.memory_bytes_per_s = bytes_per_s;
    int64_t rows = 1;
    const auto bound_by_memory = [&] {
      Cost cost;
      cost.products.push_back({rows, 16384, 4096, 1, DType::u8});
      cost.bytes_read = rows * 4096 + 4096 * 16384;
      cost.bytes_written = rows * 16384;
      const OperatorTime time = time_of(chip, "matmul", cost);
      return time.bytes > time.products * chip.shape_efficiency(cost.products[0]);
    };
    while (bound_by_memory()) ++rows;
    return static_cast<double>(rows);
  };
  const Chip v5e = chip("v5e");
  expect_within(least_rows(v5e, v5e.memory_bytes_per_s), 271);
  expect_within(least_rows(v5e, v5e.on_chip_bytes_per_s), 11);
}

// 3. 16e9 bytes of int8 from the hosts of a v5e 4x4 to one chip, times bf16[8, ...]: by PCIe, of which the
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
  expect_within(time_of(v5e, "copy", cost).total.count(), 19 * kMillisecond);
  // 16e9 weights of about 126491 x 126491, laid out as one product without padding.
  Cost product;
  product.products.push_back({8, 128 * 1000, 125 * 1000, 1, DType::bf16});
  expect_within(time_of(v5e, "matmul", product).products.count() * v5e.shape_efficiency(product.products[0]),
                1.3 * kMillisecond);
}

// 4. 6 N FLOPs a token at 40 % of the peak of v5p.
TEST(WorkedAnswers, LlamasOnV5p) {
  const Chip v5p = chip("v5p");
  const double useful = 0.4 * v5p.peak_flops_per_s.at(DType::bf16);
  expect_within(6 * 13.1e9 * 3e6 / (16 * 16 * 16 * useful), 0.3);
  EXPECT_EQ(v5p.topology.pod_chips(), 8960);
  expect_within(6 * 70e9 * 15e12 / (8960 * useful), 44.0 * 86400);
}

}  // namespace
}  // namespace toroid::sim
