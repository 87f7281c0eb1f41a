// What an activation is written in: + - * / and the functions below, of numbers of a type X, constants being
// doubles. For double they stand here; vectors have no operators, so a device that computes with them has an
// operation for each step of a recorded program instead (program.h).
//
// e^x is near the ends of fp32's range at |x| = 85: what an exponential is taken of is clamped before.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

namespace toroid::op::activation {

// f(z) and f'(z).
template <class X>
struct Point {
  X value, slope;
};

// x y + z, with one rounding where a device has that.
inline double multiply_add(double x, double y, double z) {
  return x * y + z;
}

inline double absolute(double x) {
  return std::abs(x);
}

// x within [-limit, limit]; NaN for NaN.
inline double clamp(double x, double limit) {
  return std::clamp(x, -limit, limit);
}

// a where x < 0, else b, which is thus what NaN takes.
inline double where_negative(double x, double a, double b) {
  return x < 0 ? a : b;
}

// a where x > 0, else b.
inline double where_positive(double x, double a, double b) {
  return x > 0 ? a : b;
}

// e^(a x + b x^3) and e^(a x^2). These are operations of their own, since half an ulp of an exponent of 85
// would show in its power: a device in fp32 keeps here what each rounding loses.
inline double exp_cubic(double x, double a, double b) {
  return std::exp(x * (a + b * x * x));
}
inline double exp_square(double x, double a) {
  return std::exp(a * x * x);
}

// e^(t^2 / 2) times the normal distribution's tail beyond t, for 0 <= t <= 13: smooth, from 1/2 down to about
// 1 / (t sqrt(2 pi)), so that small tails are exact in relative terms too.
inline double scaled_normal_tail(double t) {
  return 0.5 * std::erfc(t / std::numbers::sqrt2) * std::exp(0.5 * t * t);
}

}  // namespace toroid::op::activation
