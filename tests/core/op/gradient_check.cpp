#include "tests/core/op/gradient_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/op/reference.h"

namespace toroid::testing {
namespace {

double projection(const GradientCheck& check) {
  check.forward();
  double sum = 0;
  for (size_t i = 0; i < check.outputs.size(); ++i) {
    const std::vector<double> out = op::load(check.outputs[i]), along = op::load(check.output_gradients[i]);
    for (size_t j = 0; j < out.size(); ++j) sum += out[j] * along[j];
  }
  return sum;
}

}  // namespace

void check_gradients(const GradientCheck& check, double tolerance, double step) {
  for (const auto& input : check.inputs) {
    ASSERT_EQ(input.tensor.type, DType::f64) << input.name;
    ASSERT_EQ(input.gradient.type, DType::f64) << input.name;
    const std::vector<double> gradient = op::load(input.gradient), values = op::load(input.tensor);
    ASSERT_EQ(gradient.size(), values.size()) << input.name;
    double largest = 0, worst = -1, worst_value = 0;
    size_t worst_at = 0;
    for (const double g : gradient) largest = std::max(largest, std::abs(g));
    for (size_t i = 0; i < values.size(); ++i) {
      std::vector<double> moved = values;
      const auto at = [&](double x) {
        moved[i] = x;
        op::store(input.tensor, moved);
        return projection(check);
      };
      const double difference = (at(values[i] + step) - at(values[i] - step)) / (2 * step);
      const double error = std::abs(difference - gradient[i]);
      if (!(error <= worst)) {
        worst = error;
        worst_at = i;
        worst_value = difference;
      }
    }
    op::store(input.tensor, values);
    check.forward();
    if (values.empty()) continue;
    EXPECT_LE(worst, tolerance * largest + 1e-9)
        << "gradient of " << input.name << " " << input.tensor.text() << ": element " << worst_at << " is "
        << gradient[worst_at] << ", finite differences give " << worst_value << " (largest " << largest
        << ")";
  }
}

}  // namespace toroid::testing
