// The CPU's kernels join the contract; the reference kernels join it too, which tests the suite.
#include "core/device/cpu/cpu_kernels.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

std::shared_ptr<const DeviceKernels> reference_kernels() {
  auto registry = std::make_shared<DeviceKernels>();
  add_reference_kernels(*registry);
  return registry;
}

std::shared_ptr<const DeviceKernels> widened() {
  return make_cpu_kernels(2, Bf16Products::widened);
}
std::shared_ptr<const DeviceKernels> native() {
  return make_cpu_kernels(2, Bf16Products::native);
}

// Every way of computing bf16 products that this machine has.
std::vector<KernelSource> cpu_sources() {
  std::vector<KernelSource> out{{"cpu_widened", widened}};
  if (cpu::has_native_products()) out.push_back({"cpu_native", native});
  return out;
}
std::vector<KernelSource> all_sources() {
  std::vector<KernelSource> out = cpu_sources();
  out.push_back({"reference", reference_kernels});
  return out;
}

INSTANTIATE_TEST_SUITE_P(devices, KernelContract, ::testing::ValuesIn(all_sources()),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::ValuesIn(cpu_sources()),
                         [](const auto& source) { return source.param.name; });

}  // namespace
}  // namespace toroid::testing
