// z s(v), v = a z + b z^3, with the logistic function s(v) = 1 / (1 + e), e = e^-v: what several activations
// are. No digits cancel where z is negative.
#pragma once

#include "core/op/activation/arithmetic.h"

namespace toroid::op::activation {

class LogisticGate {
 public:
  // Both at least 0, and one of them more. `linear_slope` is `linear` as v' has it.
  constexpr LogisticGate(double linear, double cubic, double linear_slope)
      : linear_(linear), cubic_(cubic), linear_slope_(linear_slope) {
    // z in tenths up to which v is at most 85: beyond, s is 1 or below 1e-36.
    int tenths = 1;
    while (v((tenths + 1) / 10.0) < 85.05) ++tenths;
    limit_ = tenths / 10.0;
  }

  constexpr LogisticGate(double linear, double cubic) : LogisticGate(linear, cubic, linear) {}

  // f'(z) = s + z s (1 - s) v', with 1 - s = e s.
  template <class X>
  constexpr Point<X> operator()(X z) const {
    const X inside = clamp(z, limit_);
    const X e = exp_cubic(inside, -linear_, -cubic_);
    const X s = 1.0 / (e + 1.0);
    const X value = z * s, rise = value * (e * s);
    const X v_slope =
        cubic_ == 0 ? X(linear_slope_) : multiply_add(inside * inside, 3 * cubic_, linear_slope_);
    return {value, s + rise * v_slope};
  }

 private:
  constexpr double v(double z) const { return linear_ * z + cubic_ * z * z * z; }

  double linear_, cubic_, linear_slope_, limit_ = 0;
};

}  // namespace toroid::op::activation
