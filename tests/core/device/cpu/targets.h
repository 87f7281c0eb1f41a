// Runs a test on each of Highway's targets that the kernels were compiled for and this machine has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hwy/targets.h"

namespace toroid::testing {

struct Target {
  std::string name;
  int64_t bit;
};

inline std::vector<Target> targets_here() {
  const int64_t here = hwy::SupportedTargets();
  std::vector<Target> found;
  for (const Target& target : {Target{"avx512", HWY_AVX3}, Target{"avx2", HWY_AVX2}}) {
    if ((here & target.bit) != 0) found.push_back(target);
  }
  found.push_back({"scalar", HWY_SCALAR});
  return found;
}

// Dispatch goes to `target` as long as this lives.
class OnlyTarget {
 public:
  explicit OnlyTarget(const Target& target) {
    hwy::SetSupportedTargetsForTest(target.bit);
    hwy::GetChosenTarget().Update(target.bit);
  }
  ~OnlyTarget() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
  OnlyTarget(const OnlyTarget&) = delete;  // the choice is the process's
  OnlyTarget& operator=(const OnlyTarget&) = delete;
};

}  // namespace toroid::testing
