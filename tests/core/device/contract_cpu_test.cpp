// The CPU's kernels join the contract; the reference kernels join it too, which tests the suite.
#include "core/device/cpu/cpu_kernels.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

std::shared_ptr<const KernelRegistry> reference_kernels() {
  auto registry = std::make_shared<KernelRegistry>();
  add_reference_kernels(*registry);
  return registry;
}

std::shared_ptr<const KernelRegistry> cpu_kernels() {
  return make_cpu_kernels(2);
}

INSTANTIATE_TEST_SUITE_P(devices, KernelContract,
                         ::testing::Values(KernelSource{"reference", reference_kernels},
                                           KernelSource{"cpu", cpu_kernels}),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::Values(KernelSource{"cpu", cpu_kernels}),
                         [](const auto& source) { return source.param.name; });

}  // namespace
}  // namespace toroid::testing
