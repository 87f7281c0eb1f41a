// What attention on a GPU leaves out, and what it refuses.
#include "core/op/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/op/reference.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;

std::unique_ptr<Device> make_cuda(int) {
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  options.staging_bytes = int64_t{1} << 20;
  return std::make_unique<CudaDevice>(make_cuda_kernels(), options);
}

class CudaAttention : public ::testing::Test {
 protected:
  stand_in::Scope scope_;
  Devices devices_{make_cuda, false};
  Workbench bench_{devices_};
};

// The rows from `first` up to `end` hold NaN.
Tensor with_nan(Workbench& bench, DType type, Shape shape, int64_t first, int64_t end) {
  std::vector<double> values = op::load(bench.normal(type, shape));
  for (int64_t i = first * shape[1]; i < end * shape[1]; ++i) values[static_cast<size_t>(i)] = NAN;
  return bench.filled(type, shape, values);
}

void expect_finite(const Tensor& t, int64_t first, int64_t end, const char* what) {
  const std::vector<double> values = op::load(t.slice_rows(first, end - first));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(std::isfinite(values[i])) << what << ": element " << i << " of the rows from " << first;
  }
}

// Zero times NaN is NaN: a block of keys that no query of a block sees is not multiplied, before a document,
// before a window and after the diagonal; nor are queries that see none of a block of keys.
TEST_F(CudaAttention, blocks_that_nobody_sees_are_left_out) {
  constexpr int64_t T = 320, kOther = 128, H = 16;  // the first document has whole blocks of any kernel
  for (const DType type : {f32, DType::bf16}) {
    for (const bool by_window : {false, true}) {
      std::vector<int64_t> starts(static_cast<size_t>(T), 0);
      const op::AttentionSpec spec{1, 2, 1, H, 0.25, by_window ? 64 : 0, 0};
      if (!by_window) std::fill(starts.begin() + kOther, starts.end(), kOther);
      const int64_t clean = by_window ? kOther + 64 : kOther;  // queries from here on see nothing of the NaN
      const Tensor first = bench_.integers({T}, starts), q = bench_.normal(type, {T, 2 * H}),
                   k = with_nan(bench_, type, {T, H}, 0, kOther),
                   v = with_nan(bench_, type, {T, H}, 0, kOther), o = bench_.output(type, {T, 2 * H}),
                   lse = bench_.output(f32, {2, T});
      bench_.run(op::attention(q, k, v, first, o, lse, spec));
      expect_finite(o, clean, T, "o");

      const Tensor dq = bench_.output(type, {T, 2 * H}), dk = bench_.output(type, {T, H}),
                   dv = bench_.output(type, {T, H}), d_o = bench_.normal(type, {T, 2 * H});
      bench_.run(op::attention_grad(d_o, q, k, v, o, lse, first, dq, dk, dv, spec));
      expect_finite(dq, clean, T, "dq");
      expect_finite(dk, clean, T, "dk");
      expect_finite(dv, clean, T, "dv");
    }
    // The last queries, which see nothing of the first keys.
    for (const bool by_window : {false, true}) {
      constexpr int64_t kLast = 192, kWindow = 64;
      std::vector<int64_t> starts(static_cast<size_t>(T), 0);
      if (!by_window) std::fill(starts.begin() + kLast, starts.end(), kLast);
      const op::AttentionSpec spec{1, 2, 1, H, 0.25, by_window ? kWindow : 0, 0};
      const Tensor first = bench_.integers({T}, starts), q = with_nan(bench_, type, {T, 2 * H}, kLast, T),
                   k = bench_.normal(type, {T, H}), v = bench_.normal(type, {T, H}),
                   o = bench_.output(type, {T, 2 * H}), lse = bench_.output(f32, {2, T}),
                   dq = bench_.output(type, {T, 2 * H}), dk = bench_.output(type, {T, H}),
                   dv = bench_.output(type, {T, H}), d_o = bench_.normal(type, {T, 2 * H});
      bench_.run(op::attention(q, k, v, first, o, lse, spec));
      bench_.run(op::attention_grad(d_o, q, k, v, o, lse, first, dq, dk, dv, spec));
      const int64_t clean = by_window ? kLast - kWindow : kLast;
      expect_finite(dk, 0, clean, "dk");
      expect_finite(dv, 0, clean, "dv");
      expect_finite(dq, 0, kLast, "dq");
    }
    // The last keys, of which the first queries see none.
    const Tensor first = bench_.integers({T}, std::vector<int64_t>(static_cast<size_t>(T), 0)),
                 q = bench_.normal(type, {T, H}), k = with_nan(bench_, type, {T, H}, T - kOther, T),
                 v = with_nan(bench_, type, {T, H}, T - kOther, T), o = bench_.output(type, {T, H}),
                 lse = bench_.output(f32, {1, T});
    bench_.run(op::attention(q, k, v, first, o, lse, {1, 1, 1, H, 0.25}));
    expect_finite(o, 0, T - kOther, "o");
  }
}

TEST_F(CudaAttention, a_query_that_sees_nothing_has_zeros) {
  constexpr int64_t T = 40, H = 8, kBlind = 37;
  for (const DType type : {f32, DType::bf16}) {
    std::vector<int64_t> starts(static_cast<size_t>(T), 0);
    starts[kBlind] = kBlind + 1;
    const Tensor first = bench_.integers({T}, starts), q = bench_.normal(type, {T, H}),
                 k = bench_.normal(type, {T, H}), v = bench_.normal(type, {T, H}),
                 o = bench_.output(type, {T, H}), lse = bench_.output(f32, {1, T});
    const op::AttentionSpec spec{1, 1, 1, H, 0.25};
    bench_.run(op::attention(q, k, v, first, o, lse, spec));
    for (const double value : op::load(o.slice_rows(kBlind, 1))) EXPECT_EQ(value, 0);
    EXPECT_EQ(op::load(lse)[kBlind], -std::numeric_limits<double>::infinity());

    const Tensor dq = bench_.output(type, {T, H}), dk = bench_.output(type, {T, H}),
                 dv = bench_.output(type, {T, H});
    bench_.run(op::attention_grad(bench_.normal(type, {T, H}), q, k, v, o, lse, first, dq, dk, dv, spec));
    for (const double value : op::load(dq.slice_rows(kBlind, 1))) EXPECT_EQ(value, 0);
    expect_finite(dk, 0, T, "dk");
    expect_finite(dv, 0, T, "dv");
  }
}

TEST_F(CudaAttention, wider_heads_are_refused_in_a_sentence) {
  constexpr int64_t T = 4, H = 264;
  const Tensor first = bench_.integers({T}, std::vector<int64_t>(static_cast<size_t>(T), 0)),
               q = bench_.normal(f32, {T, H}), k = bench_.normal(f32, {T, H}), v = bench_.normal(f32, {T, H});
  try {
    bench_.run(op::attention(q, k, v, first, bench_.output(f32, {T, H}), {}, {1, 1, 1, H, 0.25}));
    FAIL() << "nothing was refused";
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "attention on the GPU has heads of up to 256 elements, not 264: choose more and narrower heads");
  }
}

}  // namespace
}  // namespace toroid::testing
