#include "data/mixture/mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace toroid {
namespace {

// In every prefix each source has had its share within one sequence, and its sequences are numbered without
// gaps.
void expect_fair(const std::vector<double>& weights, int64_t prefix) {
  const Mixture mixture(weights);
  std::vector<int64_t> taken(weights.size());
  for (int64_t n = 1; n <= prefix; ++n) {
    const Mixture::Place place = mixture.place(n - 1);
    ASSERT_EQ(place.ordinal, taken[static_cast<size_t>(place.source)]++);
    for (size_t i = 0; i < weights.size(); ++i) {
      const double due = mixture.weight(static_cast<int>(i)) * static_cast<double>(n);
      ASSERT_LT(std::abs(static_cast<double>(taken[i]) - due), 1.0 + 1e-9)
          << "source " << i << " after " << n;
    }
  }
}

TEST(Mixture, EveryPrefixIsFair) {
  expect_fair({1}, 1000);
  expect_fair({1, 1}, 5000);
  expect_fair({0.7, 0.3}, 20000);
  expect_fair({1, 2, 3, 4, 5, 6, 7}, 30000);
  expect_fair({0.9, 0.05, 0.03, 0.02}, 30000);
  expect_fair({1, 0, 3}, 5000);
  expect_fair({1e-9, 1}, 3000);
  expect_fair({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1000}, 30000);
  expect_fair({std::sqrt(2.0), std::exp(1.0), 3.14159, 0.577, 1.618}, 30000);
}

TEST(Mixture, WholeNumbersAreMetExactlyAndPeriodsJoin) {
  const Mixture mixture(std::vector<double>{1, 3});
  std::vector<int64_t> taken(2);
  for (int64_t i = 0; i < 400; ++i) {
    const Mixture::Place place = mixture.place(i);
    EXPECT_EQ(place.ordinal, taken[static_cast<size_t>(place.source)]++);
    if (i % 4 == 3) {
      EXPECT_EQ(taken[0] * 3, taken[1]);
    }
  }
  // Far ahead, without what came before.
  const int64_t far = int64_t{1} << 50;
  EXPECT_EQ(mixture.place(far).source, mixture.place(0).source);
  EXPECT_EQ(mixture.place(far + 3).ordinal - mixture.place(3).ordinal,
            mixture.place(3).source == 0 ? far / 4 : far / 4 * 3);
}

TEST(Mixture, WeightsAreCloseToWhatWasAsked) {
  const std::vector<double> weights = {0.123456789, 0.5, 0.376543211};
  const Mixture mixture(weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_NEAR(mixture.weight(static_cast<int>(i)), weights[i], 0x1p-20);
  }
}

TEST(Mixture, ASourceOfWeightZeroIsNeverTaken) {
  const Mixture mixture(std::vector<double>{0, 1, 0});
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(mixture.place(i).source, 1);
}

TEST(Mixture, RefusesWeightsThatMeanNothing) {
  for (const std::vector<double>& weights :
       std::vector<std::vector<double>>{{},
                                        {0, 0},
                                        {-1, 2},
                                        {std::numeric_limits<double>::quiet_NaN()},
                                        {std::numeric_limits<double>::infinity(), 1},
                                        std::vector<double>(5000, 1.0)}) {
    EXPECT_THROW(Mixture{weights}, UserError);
  }
}

}  // namespace
}  // namespace toroid
