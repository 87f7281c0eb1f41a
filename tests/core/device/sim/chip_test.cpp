// What operators cost on a chip of arrays, vector units and memory: of TPU v5e, whose file says that it has
// four arrays of 128 x 128.
#include "core/device/sim/chip.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/device/sim/chip.pb.h"

namespace toroid::sim {
namespace {

constexpr double kCycle = 128.0 * 128 * 4 * 2 / 197e12;  // seconds: all arrays multiply and add once
constexpr double kDepth = 128 + 128 - 2;                 // cycles in which an array fills and drains

const Chip& v5e() {
  static const Chip chip = [] {
    config::ChipConfig config;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        read_file("configs/chips/v5e.textproto", 1 << 20), &config));
    return make_chip(config);
  }();
  return chip;
}

Product bf16(int64_t m, int64_t n, int64_t k, int64_t count = 1) {
  return {m, n, k, count, DType::bf16};
}

double cycles(const Product& product) {
  return v5e().product_time(product).count() / kCycle;
}

TEST(ChipCosts, ASmallSquareIsFarBelowThePeak) {
  EXPECT_NEAR(cycles(bf16(512, 512, 512)), 4 * 512 + kDepth, 1e-6) << "16 weights on 4 arrays, 512 rows each";
  EXPECT_LT(v5e().shape_efficiency(bf16(512, 512, 512)), 0.9);
  EXPECT_LT(v5e().shape_efficiency(bf16(128, 128, 128)), 0.1) << "one array of four, and its depth";
}

TEST(ChipCosts, LargeProductsReachThePeakAndNoneExceedsIt) {
  EXPECT_GT(v5e().shape_efficiency(bf16(8192, 16384, 2048)), 0.97);
  EXPECT_GT(v5e().shape_efficiency(bf16(4096, 4096, 4096)), 0.97);
  for (const int64_t m : {1, 7, 128, 129, 1000, 4096}) {
    for (const int64_t n : {1, 127, 512, 3000}) {
      for (const int64_t k : {1, 130, 2048}) {
        EXPECT_LT(v5e().shape_efficiency(bf16(m, n, k)), 1) << m << "x" << n << "x" << k;
        EXPECT_GT(v5e().shape_efficiency(bf16(m, n, k)), 0) << m << "x" << n << "x" << k;
        EXPECT_DOUBLE_EQ(cycles(bf16(m, n, k)), cycles(bf16(n, m, k))) << "either operand may be kept";
      }
    }
  }
}

// Of the operand that is kept, and of what is summed over; a part of a weight leaves the rest empty.
TEST(ChipCosts, DimensionsArePaddedToWholeWeights) {
  EXPECT_NEAR(cycles(bf16(200, 129, 512)), 4 * 2 / 4 * 129 + kDepth, 1e-6) << "4 x 2 weights, 129 rows";
  EXPECT_DOUBLE_EQ(cycles(bf16(200, 129, 512)), cycles(bf16(256, 129, 512)));
  EXPECT_DOUBLE_EQ(cycles(bf16(4096, 4096, 129)), cycles(bf16(4096, 4096, 256)));
  EXPECT_LT(cycles(bf16(4096, 4096, 128)), 0.6 * cycles(bf16(4096, 4096, 129)));
}

// Fewer rows than it takes to load the next weight: a decoding step is as long as that takes.
TEST(ChipCosts, FewRowsCostAWeightsLoad) {
  const int64_t weights = (8192 / 128) * (8192 / 128);
  EXPECT_NEAR(cycles(bf16(1, 8192, 8192)), static_cast<double>(weights) / 4 * 128 + kDepth, 1e-6);
  for (const int64_t m : {1, 8, 64, 127, 128})
    EXPECT_DOUBLE_EQ(cycles(bf16(m, 8192, 8192)), cycles(bf16(1, 8192, 8192))) << m;
  EXPECT_GT(cycles(bf16(129, 8192, 8192)), cycles(bf16(128, 8192, 8192)));
}

TEST(ChipCosts, ManySmallProductsFillAllArrays) {
  EXPECT_NEAR(cycles(bf16(128, 128, 128, 1)), 128 + kDepth, 1e-6);
  EXPECT_NEAR(cycles(bf16(128, 128, 128, 4)), 128 + kDepth, 1e-6);
  EXPECT_NEAR(cycles(bf16(128, 128, 128, 5)), 2 * 128 + kDepth, 1e-6);
  EXPECT_EQ(cycles(bf16(128, 128, 128, 0)), 0);
}

TEST(ChipCosts, TheLongestOfProductsVectorWorkAndBytesCounts) {
  Cost cost;
  cost.products.push_back(bf16(4096, 4096, 4096));
  cost.vector_flops = 1000;
  cost.bytes_read = 1000;
  const OperatorTime by_products = time_of(v5e(), "matmul", cost);
  EXPECT_EQ(by_products.bound(), OperatorTime::Bound::products);
  EXPECT_EQ(by_products.total, by_products.products);
  EXPECT_NEAR(by_products.products.count(), v5e().product_time(bf16(4096, 4096, 4096)).count(), 1e-12);

  cost.vector_flops = int64_t{61} * 1'000'000'000;
  const OperatorTime by_vector = time_of(v5e(), "matmul", cost);
  EXPECT_EQ(by_vector.bound(), OperatorTime::Bound::vector);
  EXPECT_NEAR(by_vector.total.count(), 0.01, 1e-9) << "61e9 of 6.1e12 a second";

  cost.bytes_written = int64_t{819} * 100'000'000;
  const OperatorTime by_bytes = time_of(v5e(), "matmul", cost);
  EXPECT_EQ(by_bytes.bound(), OperatorTime::Bound::memory);
  EXPECT_NEAR(by_bytes.total.count(), 0.1, 1e-6);

  Chip with_constants = v5e();
  with_constants.constants.memory_efficiency = 0.5;
  with_constants.constants.operator_overhead = Seconds(1e-3);
  EXPECT_NEAR(time_of(with_constants, "matmul", cost).total.count(), 0.101, 1e-6);
  Cost bytes_alone;
  bytes_alone.bytes_written = cost.bytes_written;
  EXPECT_NEAR(time_of(with_constants, "cast", bytes_alone).total.count(), 0.201, 1e-6)
      << "what memory does badly are operators without products";
  Chip unknown = v5e();
  unknown.vector_flops_per_s = 0;
  cost.bytes_written = 0;
  EXPECT_EQ(time_of(unknown, "matmul", cost).bound(), OperatorTime::Bound::products)
      << "where nothing is known of the vector units their work takes no time of its own";
}

// As layers charge it: what is seen, (T + 1) / 2 keys a query, rounded up.
Cost attention(int64_t T, int64_t heads) {
  const int64_t keys = (T * (T + 1) / 2 + T - 1) / T;
  Cost cost;
  cost.products = {bf16(T, keys, 256, heads), bf16(T, 256, keys, heads)};
  cost.vector_flops = 8 * heads * T * (T + 1) / 2;
  return cost;
}

double attention_s(int64_t T, int64_t block, double efficiency = 1) {
  Chip chip = v5e();
  chip.attention_block = block;
  chip.constants.attention_efficiency = efficiency;
  return time_of(chip, "attention", attention(T, 8)).total.count();
}

TEST(ChipCosts, AttentionComputesWholeBlocks) {
  EXPECT_NEAR(attention_s(2048, 512) / attention_s(2048, 0), (2048.0 + 512) / 2049, 1e-3);
  EXPECT_NEAR(attention_s(8192, 512) / attention_s(8192, 0), (8192.0 + 512) / 8193, 1e-3);
  EXPECT_NEAR(attention_s(256, 512) / attention_s(256, 0), 256.0 / 129, 1e-3) << "no more than all pairs";
  EXPECT_NEAR(attention_s(2048, 512, 0.25) / attention_s(2048, 512), 4, 1e-9);
}

TEST(ChipCosts, AttentionsProductsAndVectorWorkAddUp) {
  Chip chip = v5e();
  chip.attention_block = 0;
  const Cost cost = attention(2048, 8);
  const double vector = static_cast<double>(cost.vector_flops) / chip.vector_flops_per_s;
  const double products = (chip.product_time(cost.products[0]) + chip.product_time(cost.products[1])).count();
  const OperatorTime both = time_of(chip, "attention_grad", cost);
  EXPECT_NEAR(both.total.count(), products + vector, 1e-12);
  EXPECT_EQ(both.bound(), OperatorTime::Bound::products);
  EXPECT_NEAR(time_of(chip, "matmul", cost).total.count(), std::max(products, vector), 1e-12)
      << "elsewhere they overlap";
}

TEST(ChipCosts, BytesAreReadOnceWhereAnOperandFits) {
  const double room = static_cast<double>(v5e().on_chip_bytes) / 2;
  const int64_t fits = static_cast<int64_t>(room) / (2 * 8192);  // rows of 8192 bf16
  EXPECT_EQ(v5e().bytes_read_again(bf16(1 << 20, fits, 8192)), 0);
  EXPECT_EQ(v5e().bytes_read_again(bf16(fits, 1 << 20, 8192)), 0);
  EXPECT_GT(v5e().bytes_read_again(bf16(1 << 20, fits + 1, 8192)), 0);
  EXPECT_EQ(v5e().bytes_read_again(bf16(1 << 20, 1 << 20, 8192, 2)), 0) << "of a batch nothing is known";
  Chip no_memory = v5e();
  no_memory.on_chip_bytes = 0;
  EXPECT_EQ(no_memory.bytes_read_again(bf16(1 << 20, 1 << 20, 8192)), 0);
}

TEST(ChipCosts, PanelsAreReadAgainForEachSquareOfSums) {
  const double side = std::sqrt(static_cast<double>(v5e().on_chip_bytes) / 2 / 4);  // 4096 rows of f32
  ASSERT_EQ(side, 4096);
  const double left = 16384.0 * 8192 * 2, right = 12288.0 * 8192 * 2;
  EXPECT_DOUBLE_EQ(v5e().bytes_read_again(bf16(16384, 12288, 8192)), left * 2 + right * 3);
  Cost cost;
  cost.products.push_back(bf16(16384, 12288, 8192));
  cost.bytes_read = static_cast<int64_t>(left + right);
  EXPECT_NEAR(time_of(v5e(), "matmul", cost).bytes.count(), (left * 3 + right * 4) / 819e9, 1e-9);
}

TEST(ChipCosts, ATypeWithoutAPeakIsRefused) {
  EXPECT_THROW((void)v5e().product_time({8, 8, 8, 1, DType::f32}), UserError);
}

}  // namespace
}  // namespace toroid::sim
