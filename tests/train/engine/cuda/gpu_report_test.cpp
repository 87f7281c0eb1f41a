// What `toroid doctor` finds out about GPUs.
#include "train/engine/cuda/gpu_report.h"

#include <gtest/gtest.h>

#include "tests/core/device/cuda/stand_in/stand_in.h"

namespace toroid::train {
namespace {

constexpr int64_t kSide = 128;

namespace stand_in = ::toroid::testing::stand_in;

stand_in::Machine machine_of(int gpus) {
  stand_in::Machine machine;
  machine.gpus = gpus;
  machine.bytes = int64_t{256} << 20;
  return machine;
}

TEST(GpuReport, measures_each_gpu) {
  const stand_in::Scope machine(machine_of(2));
  const GpuReport report = look_at_gpus(kSide);
  EXPECT_EQ(report.why_none, "");
  EXPECT_EQ(report.versions, "driver up to CUDA 13.0, program 13.0");
  ASSERT_EQ(report.gpus.size(), 2u);
  for (const GpuReport::One& gpu : report.gpus) {
    EXPECT_EQ(gpu.why_not, "");
    EXPECT_NE(gpu.name.find("compute capability 9.0"), std::string::npos) << gpu.name;
    EXPECT_EQ(gpu.free, int64_t{256} << 20) << "what measured the other one has gone";
    EXPECT_GT(gpu.bf16_flops_per_s, 0);
    EXPECT_GT(gpu.fp32_flops_per_s, 0);
    EXPECT_GT(gpu.copy_bytes_per_s, 0);
  }
}

TEST(GpuReport, says_why_there_is_none) {
  {
    const stand_in::Scope machine(machine_of(0));
    EXPECT_NE(look_at_gpus(kSide).why_none.find("CUDA sees no GPU here"), std::string::npos);
  }
  stand_in::Machine bare = machine_of(1);
  bare.driver = 0;
  const stand_in::Scope machine(bare);
  const GpuReport report = look_at_gpus(kSide);
  EXPECT_EQ(report.versions, "no driver, program 13.0");
  EXPECT_NE(report.why_none.find("no NVIDIA driver"), std::string::npos);
}

TEST(GpuReport, goes_on_where_one_gpu_cannot_be_used) {
  stand_in::Scope machine(machine_of(2));
  machine.fail("cudaMalloc", 1, 2);
  const GpuReport report = look_at_gpus(kSide);
  ASSERT_EQ(report.gpus.size(), 2u);
  EXPECT_NE(report.gpus[0].why_not, "");
  EXPECT_EQ(report.gpus[1].why_not, "");
}

}  // namespace
}  // namespace toroid::train
