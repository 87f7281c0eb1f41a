// The contract of communicators, over the collectives of NCCL.
#include <gtest/gtest.h>

#include <bit>

#include "tests/parallel/comm/contract.h"
#include "tests/parallel/comm/nccl/ranks.h"

namespace toroid::testing {
namespace {

void check_contract(World& world, Device& device) {
  const bool power_of_two = std::has_single_bit(static_cast<unsigned>(world.size()));
  check_operations(world, device, {});
  if (world.size() > 1) check_bf16_wire(world, device, Method::By::library);
  if (world.size() > 1 && power_of_two) check_tree(world, device, std::nullopt);
  check_beside(world, device);
  check_many_groups(world, device);
}

class NcclRanks : public ::testing::TestWithParam<int> {};

TEST_P(NcclRanks, fulfil_the_contract) {
  stand_in::Scope cuda(machine_of(GetParam()));
  NcclScope nccl;
  run_well_on_gpus({.ranks = GetParam()}, check_contract);
  EXPECT_EQ(NcclScope::aborted(), 0);
  EXPECT_EQ(NcclScope::alive(), 0);
}

TEST_P(NcclRanks, fulfil_it_late_at_random) {
  stand_in::Scope cuda(machine_of(GetParam()));
  cuda.delay(200, 3);
  NcclScope nccl;
  nccl.delay(300, 7);
  run_well_on_gpus({.ranks = GetParam()}, [](World& world, Device& device) {
    if (world.size() > 1) check_bf16_wire(world, device, Method::By::library);
    check_many_groups(world, device);
  });
  EXPECT_EQ(NcclScope::alive(), 0);
}

TEST_P(NcclRanks, keep_the_host_out_of_their_memory) {
  stand_in::Scope cuda(machine_of(GetParam()));
  cuda.close_memory();
  NcclScope nccl;
  run_well_on_gpus({.ranks = GetParam()}, [](World& world, Device& device) { check_beside(world, device); });
}

INSTANTIATE_TEST_SUITE_P(sizes, NcclRanks, ::testing::Values(1, 2, 3, 4, 8),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace toroid::testing
