// The contract of every device: a kind, by its kernel or by its expansion, agrees with the kind's reference
// in every output, writes all of it and nothing else, leaves its inputs alone, and gives the same bits when
// it runs again. A device joins with one line that says how it is made (contract_cpu_test.cpp).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>

#include "tests/core/op/workbench.h"

namespace toroid::testing {

// A device that joins, by name: what the suite is parameterised by. `make` gives one with that many threads,
// where threads mean something to it.
struct DeviceSource {
  std::string name;
  Devices::Make make;
  bool kernels_take_host_memory = false;  // Devices
};
std::ostream& operator<<(std::ostream& out, const DeviceSource& source);  // the name, for GoogleTest

// How far an output may be from the reference. Integers are equal. An element's bound is the rounding of its
// own type plus
//   epsilon(intermediate) * (8 + 2 sqrt(length)) * largest
// where `length` is the number of terms in its sum and `largest` the output's largest element, or `scale`
// where cancellation may leave less.
struct Tolerance {
  double length = 1;
  DType intermediate = DType::f32;  // bf16 where a kernel may round terms of the sum; length then counts as 1
  double scale = 0;
};

// Makes the operands of one call; called for the device and for the reference.
using Builder = std::function<Call(Workbench&)>;

class KernelContract : public ::testing::TestWithParam<DeviceSource> {
 protected:
  // Where the device can do the kind in no way there is nothing to compare: the test is to be skipped. One
  // that still lacks primitive kinds is not asked to expand others.
  bool has(const OpKind& kind) {
    const DeviceKernels& kernels = devices_.with(1).kernels();
    return kernels.find(kind) != nullptr || (kind.expand != nullptr && missing_kinds(kernels).empty());
  }
  void expect_agreement(const Builder& build, Tolerance tolerance, const std::string& what = "");
  Devices& devices() { return devices_; }

 private:
  Devices devices_{GetParam().make, GetParam().kernels_take_host_memory};
};

// Bits that depend on neither threads nor cuts. The reference kernels, which sum in one piece, do not join.
class DeterministicContract : public KernelContract {};

// Prints the worst element with its index and both values when any lies outside its bound.
void expect_close(const Tensor& actual, const Tensor& expected, Tolerance tolerance, const std::string& what);

// Sizes that straddle the widths of vectors, tiles and cache blocks.
inline constexpr int64_t kOddSizes[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 65, 127, 255, 257};

}  // namespace toroid::testing
