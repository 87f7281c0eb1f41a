// The program with the real libraries: it starts, and its groups want a GPU.
#include <gtest/gtest.h>

#include "core/device/cuda/gpus.h"
#include "parallel/comm/nccl/nccl_groups.h"

namespace toroid {
namespace {

TEST(NcclLink, a_program_with_nccl_starts_without_a_gpu) {
  EXPECT_EQ(nccl_version().substr(0, 2), "2.");
  (void)cuda::gpu_count();
}

TEST(NcclLink, one_rank_needs_no_peers) {
  const auto world = make_single_world();
  world->carry_out_by(std::make_shared<NcclGroups>(*world, NcclGroups::Options{}));
}

}  // namespace
}  // namespace toroid
