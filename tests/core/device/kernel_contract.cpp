#include "tests/core/device/kernel_contract.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/op/reference.h"

namespace toroid::testing {
namespace {

// Distance from 1 to the next number.
double epsilon(DType type) {
  switch (type) {
    case DType::f64:
      return 0x1p-52;
    case DType::f32:
      return 0x1p-23;
    default:
      return 0x1p-7;
  }
}

std::string place(const Tensor& t, int64_t i) {
  if (t.columns() == 0 || t.shape.rank() < 2) return "[" + std::to_string(i) + "]";
  return "[" + std::to_string(i / t.columns()) + ", " + std::to_string(i % t.columns()) + "]";
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const DeviceSource& source) {
  return out << source.name;
}

void expect_close(const Tensor& actual, const Tensor& expected, Tolerance tolerance,
                  const std::string& what) {
  if (actual.type == DType::i64 || actual.type == DType::i32) {
    EXPECT_EQ(op::load_integers(actual), op::load_integers(expected)) << what;
    return;
  }
  const std::vector<double> got = op::load(actual), want = op::load(expected);
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = tolerance.scale;
  for (const double value : want) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const bool narrow = tolerance.intermediate == DType::bf16 && actual.type == DType::bf16;
  const DType inner = tolerance.intermediate;
  const double spread = inner == DType::bf16 ? 8 * epsilon(DType::bf16) / 4
                                             : epsilon(inner) * (8 + 2 * std::sqrt(tolerance.length));
  double worst = 0;
  int64_t worst_at = -1;
  for (size_t i = 0; i < want.size(); ++i) {
    const double bound =
        (narrow ? 2 : 1) * epsilon(actual.type) * std::abs(want[i]) + spread * largest + 1e-30;
    const double error = std::abs(got[i] - want[i]);
    const bool both_nan = std::isnan(got[i]) && std::isnan(want[i]);
    const bool equal = got[i] == want[i] || both_nan;  // infinities too
    const double ratio = equal ? 0 : std::isfinite(error) ? error / bound : INFINITY;
    if (ratio > worst) {
      worst = ratio;
      worst_at = static_cast<int64_t>(i);
    }
  }
  EXPECT_LE(worst, 1.0) << what << ": worst element " << place(actual, worst_at) << " of " << actual.text()
                        << " is " << got[static_cast<size_t>(worst_at)] << ", the reference has "
                        << want[static_cast<size_t>(worst_at)] << " (largest " << largest << ")";
}

void KernelContract::expect_agreement(const Builder& build, Tolerance tolerance, const std::string& what) {
  if (HasFatalFailure()) return;
  Workbench slow;
  const Call reference = build(slow);
  slow.run(reference);
  for (const int threads : {1, 2}) {
    Workbench fast(devices_), again(devices_);
    const Call call = build(fast);
    const std::string text = what + " " + describe(call) + " with " + std::to_string(threads) + " threads";
    fast.run(call, threads);
    const bool repeats = threads > 1;
    const Call repeated = repeats ? build(again) : call;
    if (repeats) again.run(repeated, threads);
    EXPECT_TRUE(fast.guards_intact()) << text << ": wrote outside its outputs";
    for (size_t i = 0; i < call.operands.size(); ++i) {
      const Tensor& got = call[i];
      if (!got) continue;
      const std::string which = text + ", operand " + std::to_string(i);
      const bool is_input = call.operands[i].access == Access::in;
      // An input whose memory is also an output's is compared as that output.
      const bool aliased =
          is_input && std::any_of(call.operands.begin(), call.operands.end(), [&](const auto& o) {
            return o.access != Access::in && o.tensor && o.tensor.block == got.block;
          });
      if (aliased) continue;
      if (is_input) {
        if (got.layout == Layout::plain) {
          EXPECT_EQ(bytes_in(got), bytes_in(reference[i])) << which << ": an input was changed";
        }
        continue;
      }
      if (got.layout == Layout::plain) {
        expect_close(got, reference[i], tolerance, which);
        EXPECT_EQ(bytes_in(got), bytes_in(repeated[i])) << which << ": other bits when it ran again";
      }
      if (HasFailure()) return;  // one failing size says enough
    }
  }
}

}  // namespace toroid::testing
