// FLOP rates of a device's packed products, measured alone on operands that do not fit its L2 cache.
#pragma once

#include <array>
#include <vector>

#include "core/device/device.h"

namespace toroid::train {

struct ProductRates {
  int64_t m = 0, n = 0, k = 0;
  DType type = DType::bf16;
  double forward = 0, input_gradient = 0, weight_gradient = 0;  // FLOP/s, medians
};

// Normally distributed numbers: zeros would let a processor run faster.
Array random_array(Device& device, DType type, Shape shape);

// y[m, n] = x[m, k] W[n, k]^T, dx = dy W, dW = dy^T x: makes the operands, and runs each once to warm up.
class ProductTimer {
 public:
  ProductTimer(Device& device, int64_t m, int64_t n, int64_t k, DType type);
  // Each `repetitions` times.
  ProductRates round(int repetitions);

 private:
  struct Set {
    Array x, y, dw, forward, backward;
  };
  std::array<double, 3> once();  // FLOP/s

  Device& device_;
  ProductRates shape_;
  std::vector<Set> sets_;
  size_t next_ = 0;
};

// One round of operands of its own.
ProductRates measure_products(Device& device, int64_t m, int64_t n, int64_t k, DType type, int repetitions);

}  // namespace toroid::train
