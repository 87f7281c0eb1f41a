// The CPU joins the contract, and so do two devices that have to expand every fused kind, which tests the
// suite and the expansions: one that has finished when a call returns, and one that runs ahead. Another
// device joins by its line in all_devices(). What the CPU must be fast at is listed: a kind that fell back to
// its reference would be compared with itself.
#include <algorithm>
#include <array>
#include <set>

#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/reference_device.h"
#include "core/op/kinds.h"
#include "tests/core/device/asynchronous_device.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

DeviceSource cpu(std::string name, Bf16Products products) {
  return {
      .name = std::move(name),
      .make = [=](int threads) { return std::make_unique<CpuDevice>(make_cpu_kernels(threads, products)); },
      .kernels_take_host_memory = true};
}

// Every way of computing bf16 products that this machine has.
std::vector<DeviceSource> cpu_devices() {
  std::vector<DeviceSource> out{cpu("cpu_widened", Bf16Products::widened)};
  if (cpu::has_native_products()) out.push_back(cpu("cpu_native", Bf16Products::native));
  return out;
}
std::vector<DeviceSource> all_devices() {
  std::vector<DeviceSource> out = cpu_devices();
  out.push_back({.name = "primitives",
                 .make = [](int) { return std::make_unique<ReferenceDevice>(primitive_kernels()); }});
  out.push_back({.name = "asynchronous",
                 .make = [](int) { return std::make_unique<AsynchronousDevice>(primitive_kernels()); }});
  return out;
}

INSTANTIATE_TEST_SUITE_P(devices, KernelContract, ::testing::ValuesIn(all_devices()),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::ValuesIn(cpu_devices()),
                         [](const auto& source) { return source.param.name; });

// Every kind is in one of the two lists. The second is for kinds whose time nobody has missed yet.
constexpr std::string_view kFast[] = {"activate",
                                      "activate_grad",
                                      "adamw",
                                      "add",
                                      "attention",
                                      "attention_grad",
                                      "cast",
                                      "checksum",
                                      "combine",
                                      "compare_checksums",
                                      "compress",
                                      "decide",
                                      "descend",
                                      "ema",
                                      "embed",
                                      "embed_grad",
                                      "fill",
                                      "init_normal",
                                      "lion",
                                      "loss",
                                      "loss_grad",
                                      "loss_merge",
                                      "loss_part_grad",
                                      "loss_statistics",
                                      "matmul",
                                      "matmul_dw",
                                      "matmul_dx",
                                      "momentum",
                                      "nesterov",
                                      "outer_gradient",
                                      "pack",
                                      "residual_add",
                                      "residual_norm",
                                      "rms_norm",
                                      "rms_norm_grad",
                                      "rope",
                                      "rope_grad",
                                      "rope_table",
                                      "softcap",
                                      "sum",
                                      "sum_squares",
                                      "sum_wires",
                                      "symmetric_product",
                                      "unit_norm"};
constexpr std::array<std::string_view, 0> kByReference{};

TEST(CpuKernels, are_fast_for_every_kind_but_those_listed) {
  KernelRegistry reference;
  add_reference_kernels(reference);
  for (const DeviceSource& source : cpu_devices()) {
    SCOPED_TRACE(source.name);
    const auto device = source.make(2);
    std::multiset<std::string_view> listed(std::begin(kFast), std::end(kFast));
    listed.insert(kByReference.begin(), kByReference.end());
    for (const OpKind* kind : op::all_kinds()) {
      EXPECT_EQ(listed.erase(kind->name), 1u) << kind->name << " belongs into one of the two lists above";
      const bool fast = std::find(std::begin(kFast), std::end(kFast), kind->name) != std::end(kFast);
      const Kernel* const kernel = device->kernels().find(*kind);
      ASSERT_NE(kernel, nullptr) << kind->name << " has no kernel";
      EXPECT_EQ(kernel->run != reference.find(*kind)->run, fast)
          << kind->name << (fast ? " falls back to its reference" : " is fast now: move it to kFast");
    }
    EXPECT_TRUE(listed.empty()) << *listed.begin() << " is no kind";
  }
}

// A kind's contract is the test of its name.
TEST(CpuKernels, are_held_to_the_contract_of_their_kind) {
  std::set<std::string> tested;
  const ::testing::UnitTest& all = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const ::testing::TestSuite& suite = *all.GetTestSuite(i);
    if (std::string(suite.name()) != "devices/KernelContract") continue;
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const std::string name = suite.GetTestInfo(j)->name();
      tested.insert(name.substr(0, name.find('/')));
    }
  }
  for (const OpKind* kind : op::all_kinds()) {
    EXPECT_TRUE(tested.contains(std::string(kind->name))) << kind->name << " has no test of its name";
  }
}

}  // namespace
}  // namespace toroid::testing
