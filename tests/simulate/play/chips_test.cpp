// The chips of configs/chips: every file reads, and says what the tables of its source say.
#include "simulate/play/chips.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace toroid::train {
namespace {

sim::Chip chip(const std::string& name) {
  return read_chip(name, "configs/any.textproto");
}

TEST(Chips, EveryFileReadsAndNamesItself) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/chips")) {
    SCOPED_TRACE(entry.path());
    ASSERT_EQ(entry.path().extension(), ".textproto");
    const sim::Chip read = read_chip(entry.path().string(), {});
    EXPECT_EQ(read.name, entry.path().stem().string());
    EXPECT_GT(read.peak_flops_per_s.count(DType::bf16), 0u) << "a training step multiplies bf16";
    EXPECT_GT(read.host.chip_bytes_per_s, 0);
    EXPECT_EQ(read.topology.pod_chips() % read.host.chips, 0) << "hosts fill a pod";
    ++files;
  }
  EXPECT_GE(files, 5);
}

// The scaling book's table: HBM bytes and bytes/s, bf16 and int8 peak, a link's bytes/s one way, and bytes/s
// between pods. Cloud's figures are used for v5e, which differ by a hundredth.
TEST(Chips, HaveTheFiguresOfTheTable) {
  struct Row {
    const char* name;
    double memory, memory_rate, bf16, int8, link, between_pods;
    std::vector<int64_t> pod;
    int64_t host;
  };
  const std::vector<Row> rows = {
      {"v4", 32e9, 1.2e12, 2.75e14, 2.75e14, 4.5e10, 6.25e9, {16, 16, 16}, 4},
      {"v5p", 96e9, 2.8e12, 4.59e14, 9.18e14, 9e10, 6.25e9, {16, 20, 28}, 4},
      {"v5e", 16e9, 8.1e11, 1.97e14, 3.94e14, 4.5e10, 3.125e9, {16, 16}, 8},
      {"v6e", 32e9, 1.6e12, 9.2e14, 1.84e15, 9e10, 12.5e9, {16, 16}, 8},
      {"h100", 80e9, 3.35e12, 9.89e14, 1.979e15, 4.5e11, 5e10, {8}, 8},
      {"h200", 141e9, 4.8e12, 9.89e14, 1.979e15, 4.5e11, 5e10, {8}, 8},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const sim::Chip read = chip(row.name);
    const auto near = [](double value, double expected) { EXPECT_NEAR(value, expected, 0.015 * expected); };
    near(static_cast<double>(read.memory_bytes), row.memory);
    near(read.memory_bytes_per_s, row.memory_rate);
    near(read.peak_flops_per_s.at(DType::bf16), row.bf16);
    near(read.peak_flops_per_s.at(DType::u8), row.int8);
    near(read.topology.bytes_per_s, row.link);
    near(read.host.chip_bytes_per_s, row.between_pods);
    EXPECT_EQ(read.topology.pod, row.pod);
    EXPECT_EQ(read.host.chips, row.host);
  }
}

TEST(Chips, WrapByTheRuleOfTheirTopology) {
  for (const char* name : {"v5e", "v6e"}) {
    const sim::Topology& topology = chip(name).topology;
    for (const int64_t size : {2, 4, 8, 12, 15}) EXPECT_FALSE(topology.wraps(size)) << name << ", " << size;
    EXPECT_TRUE(topology.wraps(16)) << name;
  }
  for (const char* name : {"v4", "v5p"}) {
    const sim::Topology& topology = chip(name).topology;
    for (const int64_t size : {4, 8, 12, 16, 20, 28})
      EXPECT_TRUE(topology.wraps(size)) << name << ", " << size;
    for (const int64_t size : {1, 2, 3, 6, 10}) EXPECT_FALSE(topology.wraps(size)) << name << ", " << size;
  }
  EXPECT_TRUE(chip("h100").topology.is_switch);
}

// What a product reaches: whole weights of the arrays stream at the peak, but for the arrays' depth. The
// shapes are in tests/core/device/sim/chip_test.cpp.
TEST(Chips, LargeProductsComeCloseToThePeak) {
  for (const char* name : {"v4", "v5p", "v5e", "v6e", "h100", "h200"}) {
    const double reached = chip(name).shape_efficiency({8192, 16384, 4096, 1, DType::bf16});
    EXPECT_GT(reached, 0.97) << name;
    EXPECT_LE(reached, 1) << name;
  }
  EXPECT_DOUBLE_EQ(chip("h100").shape_efficiency({1, 1, 1, 1, DType::bf16}), 1) << "nothing is known";
  EXPECT_THROW(chip("v5e").product_time({8, 8, 8, 1, DType::f32}), UserError);
}

TEST(Chips, UnknownOnesAreRefusedWithTheNamesThereAre) {
  try {
    chip("v5");
    FAIL() << "was accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part : {"there is no chip 'v5'", "did you mean", "h100", "v5p", "v6e"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_THROW(chip("configs/chips/none.textproto"), UserError);
}

// One more is its file, beside the recipe that names it.
TEST(Chips, OneMoreIsAFile) {
  const Path folder = Path(::testing::TempDir()) / "toroid_one_more_chip";
  std::filesystem::create_directories(folder / "chips");
  write_file(folder / "chips" / "mine.textproto",
             R"(name: "mine" peak { type: "bf16" flops_per_s: 1e12 } memory { bytes: 1000 bytes_per_s: 1e9 }
                torus { pod: 4 link_bytes_per_s: 1e9 hop_latency_s: 0 }
                host { card_bytes_per_s: 1e9 pcie_bytes_per_s: 1e9 })");
  const sim::Chip mine = read_chip("mine", folder / "run.textproto");
  std::filesystem::remove_all(folder);
  EXPECT_EQ(mine.name, "mine");
  EXPECT_DOUBLE_EQ(mine.product_time({100, 100, 50, 1, DType::bf16}).count(), 1e-6);
}

// What the sentence says; that each file of tests/malformed/chip is refused in one is checked there.
TEST(Chips, RefusalsNameTheFieldAndWhatItMayBe) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      parse_chip(text, "a_chip");
    } catch (const UserError& error) {
      return error.what();
    }
    return "was accepted";
  };
  const std::string peak = "name: \"x\" peak { type: \"bf16\" flops_per_s: 1e12 } ";
  const std::string memory = "memory { bytes: 1000 bytes_per_s: 1e9 } ";
  const std::string link = "torus { pod: 4 link_bytes_per_s: 1e9 hop_latency_s: 0 } ";
  const std::string host = "host { card_bytes_per_s: 1e9 pcie_bytes_per_s: 1e9 } ";
  EXPECT_EQ(refusal(peak + memory + link + host), "was accepted");
  EXPECT_EQ(refusal(peak + memory + "torus { pod: 4 link_bytes_per_s: 0 hop_latency_s: 0 } " + host),
            "a_chip: torus.link_bytes_per_s is 0; it must be between 1 and 1e+24");
  EXPECT_EQ(refusal(peak + memory + host),
            "a_chip: neither torus nor switch is set; a chip's pod has one of them");
  EXPECT_EQ(refusal(peak + peak.substr(10) + memory + link + host),
            "a_chip: peak[1] is the second for 'bf16'; a type has one peak");
  const std::string both = refusal(peak + memory + link + host + "switch { chips: 2 }");
  EXPECT_NE(both.find("torus"), std::string::npos) << both;
  EXPECT_NE(both.find("switch"), std::string::npos) << both;
}

}  // namespace
}  // namespace toroid::train
