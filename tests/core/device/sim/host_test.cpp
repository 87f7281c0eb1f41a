// Figures of operators on a computer: fitted, interpolated, shared by the ranks of the machine.
#include "core/device/sim/host.h"

#include <gtest/gtest.h>

#include <cmath>

namespace toroid::sim {
namespace {

Cost product(int64_t m, int64_t n, int64_t k, int64_t vector_flops = 0) {
  Cost cost;
  cost.products.push_back({m, n, k, 1, DType::bf16});
  cost.vector_flops = vector_flops;
  cost.bytes_read = 2 * (m * k + n * k);
  cost.bytes_written = 2 * m * n;
  return cost;
}

Cost bytes(int64_t count) {
  Cost cost;
  cost.bytes_read = count;
  return cost;
}

OperatorSample sample(const Cost& cost, const OperatorFigure& truth) {
  return {cost, truth.time(cost)};
}

TEST(MachineFigures, FitFindsTheFigureThatMadeTheTimes) {
  const OperatorFigure truth{2e-6, 3e-12, 5e-11, 4e-11, {}};
  std::vector<OperatorSample> samples;
  for (const int64_t m : {64, 512, 3000}) {
    for (const int64_t k : {128, 700}) samples.push_back(sample(product(m, 256, k, m * 256 * 3), truth));
  }
  const OperatorFigure found = fit(samples);
  EXPECT_NEAR(found.s_start, truth.s_start, 1e-3 * truth.s_start);
  EXPECT_NEAR(found.s_per_flop, truth.s_per_flop, 1e-3 * truth.s_per_flop);
  EXPECT_NEAR(found.s_per_vector_flop, truth.s_per_vector_flop, 1e-3 * truth.s_per_vector_flop);
  EXPECT_NEAR(found.s_per_byte, truth.s_per_byte, 1e-3 * truth.s_per_byte);
  const Cost other = product(1000, 2000, 400, 12345);
  EXPECT_NEAR(found.time(other).count(), truth.time(other).count(), 1e-3 * truth.time(other).count());
}

TEST(MachineFigures, FitHasNoNegativeNumbers) {
  // Larger products are slower a FLOP: a line through these times would begin below zero.
  std::vector<OperatorSample> samples{{product(100, 100, 100), Seconds(1e-6)},
                                      {product(200, 200, 200), Seconds(20e-6)},
                                      {product(400, 400, 400), Seconds(400e-6)}};
  const OperatorFigure found = fit(samples);
  EXPECT_GE(found.s_start, 0) << found.s_start;
  EXPECT_GE(found.s_per_flop, 0) << found.s_per_flop;
  EXPECT_GE(found.s_per_byte, 0) << found.s_per_byte;
  EXPECT_GT(found.time(product(300, 300, 300)).count(), 0);
}

TEST(MachineFigures, RatesRunBetweenSizesAndStayBeyondThem) {
  const std::vector<OperatorSample> samples{{bytes(1000), Seconds(1000 * 1e-9)},
                                            {bytes(100'000), Seconds(100'000 * 3e-9)},
                                            {bytes(110'000), Seconds(110'000 * 5e-9)}};
  const OperatorFigure found = fit(samples);
  ASSERT_EQ(found.rates.size(), 2u);
  EXPECT_NEAR(found.rates[1].bytes, 105'000, 1e-6);
  EXPECT_NEAR(found.rates[1].s_per_byte, 4e-9, 1e-18);
  EXPECT_NEAR(found.time(bytes(10)).count(), 10 * 1e-9, 1e-15);
  EXPECT_NEAR(found.time(bytes(1'000'000)).count(), 1e6 * 4e-9, 1e-9);
  const auto middle = static_cast<int64_t>(std::sqrt(1000.0 * 105'000.0));
  EXPECT_NEAR(found.time(bytes(middle)).count(), static_cast<double>(middle) * 2.5e-9, 1e-8);
}

MeasuredMachine host(int ranks, int threads) {
  MeasuredMachine out;
  out.cores = 4;
  out.ranks = ranks;
  out.threads = threads;
  out.memory_bytes_per_s = 10e9;
  out.on_all["matmul"] = {0, 1e-12, 0, 0, {}};
  out.on_one["matmul"] = {0, 3e-12, 0, 0, {}};  // a core alone is faster than a quarter of four
  for (const int64_t size : {1 << 10, 1 << 20})
    out.collectives.push_back({"all_gather", "read", 4, size, size == 1 << 10 ? 1e-5 : 1e-3});
  return out;
}

TEST(MeasuredMachine, RanksShareTheCores) {
  const Cost cost = product(1000, 1000, 1000);  // 2 ms on all cores
  EXPECT_NEAR(host(1, 4).time("matmul", cost).count(), 2e-3, 1e-9);
  EXPECT_NEAR(host(2, 2).time("matmul", cost).count(), 4e-3, 1e-9);
  EXPECT_NEAR(host(4, 1).time("matmul", cost).count(), 8e-3, 1e-9);
  EXPECT_NEAR(host(8, 1).time("matmul", cost).count(), 16e-3, 1e-9) << "more ranks than cores";
  EXPECT_NEAR(host(1, 1).time("matmul", cost).count(), 6e-3, 1e-9) << "alone";
}

TEST(MeasuredMachine, WhatWasNotMeasuredGoesByProductsAndBytes) {
  EXPECT_NEAR(host(1, 4).time("new", product(1000, 1000, 1000)).count(), 2e-3, 1e-9);
  EXPECT_NEAR(host(1, 4).time("new", bytes(1'000'000'000)).count(), 0.1, 1e-9);
  EXPECT_NEAR(host(4, 1).time("new", bytes(1'000'000'000)).count(), 0.4, 1e-9);
}

TEST(MeasuredMachine, CollectivesRunBetweenSizes) {
  const MeasuredMachine four = host(4, 1);
  EXPECT_NEAR(four.collective_time("all_gather", "read", 4, 1 << 10).count(), 1e-5, 1e-12);
  EXPECT_NEAR(four.collective_time("all_gather", "read", 4, 1 << 15).count(), 1e-4, 1e-10);
  EXPECT_NEAR(four.collective_time("all_gather", "read", 4, 1 << 22).count(), 4e-3, 1e-9);
  EXPECT_NEAR(four.collective_time("all_gather", "read", 4, 1).count(), 1e-5, 1e-12);
  // Twice as many groups as cores serve.
  EXPECT_NEAR(host(8, 1).collective_time("all_gather", "read", 4, 1 << 10).count(), 2e-5, 1e-12);
  // Not measured: two ranks of each of two groups read and write the whole array.
  EXPECT_NEAR(four.collective_time("all_gather", "relay", 2, 1'000'000).count(), 2 * 4e6 / 10e9, 1e-9);
}

TEST(MeasuredMachine, CollectivesTakeCoresThatOperatorsUse) {
  EXPECT_EQ(host(4, 1).lost(Seconds(1)).count(), 1);
  EXPECT_EQ(host(8, 1).lost(Seconds(1)).count(), 1);
  EXPECT_EQ(host(2, 1).lost(Seconds(1)).count(), 0);
}

}  // namespace
}  // namespace toroid::sim
