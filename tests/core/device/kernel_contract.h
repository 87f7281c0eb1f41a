// The contract of every fast kernel: it agrees with the kind's reference in every output, writes all of it
// and nothing else, leaves its inputs alone, and gives the same bits when it runs again. A device joins with
// one file that instantiates the suite for its kernels (cpu/contract_test.cpp).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "core/device/device_kernels.h"
#include "core/op/op.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {

// A device's kernels, by name: what the suite is parameterised by.
struct KernelSource {
  std::string name;
  std::function<std::shared_ptr<const DeviceKernels>()> make;
};
std::ostream& operator<<(std::ostream& out, const KernelSource& source);  // the name, for GoogleTest

// How far an output may be from the reference. An element's bound is the rounding of its own type plus
//   epsilon(intermediate) * (8 + 2 sqrt(length)) * largest
// where `length` is the number of terms in its sum and `largest` the output's largest element, or `scale`
// where cancellation may leave less.
struct Tolerance {
  double length = 1;
  DType intermediate = DType::f32;  // bf16 where a kernel may round terms of the sum; length then counts as 1
  double scale = 0;
};

// Makes the operands of one call; called for the fast kernel and for the reference.
using Builder = std::function<Call(Workbench&)>;

class KernelContract : public ::testing::TestWithParam<KernelSource> {
 protected:
  void SetUp() override { kernels_ = GetParam().make(); }
  // Without a kernel for the kind there is nothing to compare: the test is to be skipped.
  bool has(const OpKind& kind) const { return kernels_->find(kind) != nullptr; }
  void expect_agreement(const Builder& build, Tolerance tolerance, const std::string& what = "");
  const DeviceKernels& kernels() const { return *kernels_; }

 private:
  std::shared_ptr<const DeviceKernels> kernels_;
};

// Bits that depend on neither threads nor cuts. The reference kernels, which sum in one piece, do not join.
class DeterministicContract : public KernelContract {};

// Prints the worst element with its index and both values when any lies outside its bound.
void expect_close(const Tensor& actual, const Tensor& expected, Tolerance tolerance, const std::string& what);

// Sizes that straddle the widths of vectors, tiles and cache blocks.
inline constexpr int64_t kOddSizes[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 65, 127, 255, 257};

}  // namespace toroid::testing
