// A case on several ranks that are threads, on whatever device they have; the bounds are those of one rank.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/golden/golden_case.h"
#include "tests/parallel/local_ranks.h"

namespace toroid::golden {

using Tensors = std::map<std::string, std::vector<float>>;

struct Seen {
  std::vector<double> losses, norms;
  std::vector<float> hidden, logits;
  Tensors gradients, masters;  // this rank's runs in place; NaN elsewhere
};

// Eight steps of all ranks; what they saw together.
Seen train(const Case& golden, ::toroid::testing::LocalLayout layout, const train::StepOptions& options,
           Cut cut = Cut::never,
           const ::toroid::testing::MakeRankDevice& make_device = ::toroid::testing::cpu_of_rank);

class GoldenRanksFixture : public ::testing::TestWithParam<Path> {
 protected:
  GoldenRanksFixture() : golden_(GetParam()) {}
  // What was trained in fp32.
  void expect_golden(const Seen& seen) const;
  // In bf16, with partial sums that travel as bf16.
  void expect_golden_in_bf16(const Seen& seen) const;
  std::vector<float> values(const std::string& name) const;

  Case golden_;
};

}  // namespace toroid::golden
