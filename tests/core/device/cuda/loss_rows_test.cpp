// The loss between its products, against plain loops in double.
#include "core/device/cuda/loss_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/random.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"

namespace toroid::cuda {
namespace {

struct Case {
  int64_t rows, columns, stride, valid, first;
  float softcap;
  double spread;
};
constexpr Case kCases[] = {{5, 256, 256, 256, 0, 0, 4},      {3, 8192, 8192, 8190, 100, 0, 30},
                           {4, 1001, 1003, 1001, 7, 30, 40}, {2, 24, 24, 0, 0, 0, 1},
                           {6, 4096, 4104, 4000, 50, 5, 10}, {1, 1, 1, 1, 0, 0, 1}};

struct Stream {
  cudaStream_t of = nullptr;
  Stream() { (void)cudaStreamCreateWithPriority(&of, cudaStreamNonBlocking, 0); }
  ~Stream() { (void)cudaStreamDestroy(of); }
};

class LossRows : public ::testing::TestWithParam<Case> {
 protected:
  LossRows() {
    const Case& c = GetParam();
    z_.resize(static_cast<size_t>(c.rows * c.stride));
    const RandomKey key = random_key(3, Purpose::synthetic, "logits");
    for (size_t i = 0; i < z_.size(); ++i) z_[i] = static_cast<float>(c.spread) * normal(key, i);
    for (int64_t m = 0; m < c.rows; ++m) {
      targets_.push_back(m % 3 == 2 ? -1 : static_cast<int32_t>((c.first + 37 * m) % (c.first + c.columns)));
    }
    logits_ = {z_.data(), c.rows, c.stride, c.columns, c.valid, c.softcap, targets_.data(), c.first};
  }
  double logit(int64_t m, int64_t i) const {
    const double z = z_[static_cast<size_t>(m * GetParam().stride + i)], cap = GetParam().softcap;
    return cap > 0 ? cap * std::tanh(z / cap) : z;
  }
  bool is_target(int64_t m, int64_t i) const {
    return targets_[static_cast<size_t>(m)] - GetParam().first == i;
  }

  testing::stand_in::Scope scope_;
  std::vector<float> z_;
  std::vector<int32_t> targets_;
  LogitRows logits_;
};

TEST_P(LossRows, statistics_are_those_of_the_valid_columns) {
  const Case& c = GetParam();
  const auto rows = static_cast<size_t>(c.rows);
  std::vector<float> largest(rows), sum(rows), target(rows);
  {
    const Stream stream;
    logit_statistics(stream.of, logits_, largest.data(), sum.data(), target.data());
  }
  for (int64_t m = 0; m < c.rows; ++m) {
    double most = -std::numeric_limits<double>::infinity(), total = 0, hit = 0;
    for (int64_t i = 0; i < c.valid; ++i) most = std::max(most, logit(m, i));
    for (int64_t i = 0; i < c.valid; ++i) {
      total += std::exp(logit(m, i) - most);
      if (is_target(m, i)) hit = logit(m, i);
    }
    const auto at = static_cast<size_t>(m);
    if (c.valid == 0) {
      EXPECT_EQ(largest[at], -std::numeric_limits<float>::infinity());
    } else {
      EXPECT_NEAR(largest[at], most, 2e-6 * std::abs(most));
    }
    EXPECT_NEAR(sum[at], total, 2e-5 * total) << "row " << m;
    EXPECT_NEAR(target[at], hit, 2e-6 * std::abs(hit));
  }
}

TEST_P(LossRows, the_gradient_is_that_of_the_loss) {
  const Case& c = GetParam();
  std::vector<float> norms(static_cast<size_t>(c.rows)), d_z(z_.size(), NAN);
  std::vector<uint16_t> d_z_bf16(z_.size());
  const float scale = 1.0f / 64;
  for (int64_t m = 0; m < c.rows; ++m) {
    double total = 0;
    for (int64_t i = 0; i < c.valid; ++i) total += std::exp(logit(m, i) - 20);
    norms[static_cast<size_t>(m)] = static_cast<float>(20 + std::log(total + 1e-300));
  }
  {
    const Stream stream;
    logit_gradient(stream.of, logits_, norms.data(), &scale, d_z.data(), DType::f32);
    logit_gradient(stream.of, logits_, norms.data(), &scale, d_z_bf16.data(), DType::bf16);
  }
  for (int64_t m = 0; m < c.rows; ++m) {
    for (int64_t i = 0; i < c.columns; ++i) {
      const auto at = static_cast<size_t>(m * c.stride + i);
      double want = 0;
      if (i < c.valid && targets_[static_cast<size_t>(m)] >= 0) {
        want = std::exp(logit(m, i) - norms[static_cast<size_t>(m)]) - (is_target(m, i) ? 1 : 0);
        want *= scale;
        if (c.softcap > 0) want *= 1 - std::pow(logit(m, i) / c.softcap, 2);
      }
      ASSERT_NEAR(d_z[at], want, 1e-5 * std::abs(want) + 1e-8) << m << ", " << i;
      ASSERT_NEAR(from_bf16(d_z_bf16[at]), want, 0x1p-8 * std::abs(want) + 1e-8) << m << ", " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(sizes, LossRows, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace toroid::cuda
