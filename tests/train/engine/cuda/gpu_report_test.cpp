// What `toroid doctor` finds out about GPUs.
#include "train/engine/cuda/gpu_report.h"

#include <gtest/gtest.h>

#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/parallel/comm/nccl/stand_in/nccl_stand_in.h"

namespace toroid::train {
namespace {

const GpuReportOptions kSmall{.side = 128, .collective_bytes = 1 << 16, .deadline = Seconds(20)};

namespace stand_in = ::toroid::testing::stand_in;

stand_in::Machine machine_of(int gpus) {
  stand_in::Machine machine;
  machine.gpus = gpus;
  machine.bytes = int64_t{256} << 20;
  return machine;
}

TEST(GpuReport, measures_each_gpu) {
  const stand_in::Scope machine(machine_of(2));
  const GpuReport report = look_at_gpus(kSmall);
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
  EXPECT_EQ(report.attention, "cuDNN 9.19.0");
  EXPECT_EQ(report.peers, "all reach each other's memory");
  EXPECT_EQ(report.why_not_nccl, "");
  EXPECT_EQ(report.nccl, "2.28.9");
  EXPECT_GT(report.gather_bytes_per_s, 0);
  EXPECT_GT(report.reduce_bytes_per_s, 0);
  EXPECT_EQ(::toroid::testing::NcclScope::alive(), 0);
}

TEST(GpuReport, says_why_there_is_none) {
  {
    const stand_in::Scope machine(machine_of(0));
    EXPECT_NE(look_at_gpus(kSmall).why_none.find("CUDA sees no GPU here"), std::string::npos);
  }
  stand_in::Machine bare = machine_of(1);
  bare.driver = 0;
  const stand_in::Scope machine(bare);
  const GpuReport report = look_at_gpus(kSmall);
  EXPECT_EQ(report.versions, "no driver, program 13.0");
  EXPECT_NE(report.why_none.find("no NVIDIA driver"), std::string::npos);
}

TEST(GpuReport, goes_on_where_one_gpu_cannot_be_used) {
  stand_in::Scope machine(machine_of(2));
  machine.fail("cudaMalloc", 1, 2);
  const GpuReport report = look_at_gpus(kSmall);
  ASSERT_EQ(report.gpus.size(), 2u);
  EXPECT_NE(report.gpus[0].why_not, "");
  EXPECT_EQ(report.gpus[1].why_not, "");
  EXPECT_NE(report.why_not_nccl.find("a GPU cannot be used"), std::string::npos) << report.why_not_nccl;
}

TEST(GpuReport, says_which_pairs_do_not_reach_each_other) {
  stand_in::Machine two_pairs = machine_of(4);
  two_pairs.linked = 2;
  const stand_in::Scope machine(two_pairs);
  EXPECT_EQ(look_at_gpus(kSmall).peers, "these pairs go by the host's memory: 0-2, 0-3, 1-2, 1-3");
}

TEST(GpuReport, does_not_wait_for_ever_for_a_collective) {
  const stand_in::Scope machine(machine_of(2));
  ::toroid::testing::NcclScope nccl;
  nccl.unplug(1);
  GpuReportOptions options = kSmall;
  options.deadline = Seconds(0.5);
  const GpuReport report = look_at_gpus(options);
  EXPECT_NE(report.why_not_nccl.find("did not come back"), std::string::npos) << report.why_not_nccl;
  EXPECT_EQ(report.nccl, "2.28.9");
  EXPECT_EQ(report.gather_bytes_per_s, 0);
  EXPECT_EQ(::toroid::testing::NcclScope::alive(), 0);
}

TEST(GpuReport, says_why_nccl_was_not_measured) {
  const stand_in::Scope machine(machine_of(2));
  ::toroid::testing::NcclScope nccl;
  nccl.fail("ncclReduceScatter", 1, ncclSystemError);
  const GpuReport report = look_at_gpus(kSmall);
  EXPECT_NE(report.why_not_nccl.find("ncclSystemError"), std::string::npos) << report.why_not_nccl;
  EXPECT_EQ(::toroid::testing::NcclScope::alive(), 0);
}

}  // namespace
}  // namespace toroid::train
