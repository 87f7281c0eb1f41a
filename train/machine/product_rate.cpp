#include "train/machine/product_rate.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/clock.h"
#include "core/base/median.h"
#include "core/base/random.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"

namespace toroid::train {
namespace {

constexpr int64_t kSetBytes = int64_t{48} << 20;  // operand sets are cycled through at least this much memory
constexpr size_t kMostSets = 16;

}  // namespace

Array random_array(Device& device, DType type, Shape shape) {
  const Array values = device.array(DType::f32, shape, "benchmark");
  device.launch(op::init_normal(values.tensor.reshape({shape.elements()}),
                                {random_key(1, Purpose::synthetic, "benchmark"), 0, 1}));
  Array out = device.array(type, shape, "benchmark");
  device.launch(op::cast(values.tensor, out.tensor));
  return out;
}

ProductTimer::ProductTimer(Device& device, int64_t m, int64_t n, int64_t k, DType type)
    : device_(device), shape_{m, n, k, type} {
  const int64_t bytes = (m * k + m * n + 2 * n * k) * bytes_of(type) + n * k * 4;
  const size_t count =
      std::clamp<size_t>(static_cast<size_t>(kSetBytes / std::max<int64_t>(bytes, 1)), 1, kMostSets);
  const Array weight = random_array(device, type, {n, k});
  for (size_t i = 0; i < count; ++i) {
    Set set{random_array(device, type, {m, k}), random_array(device, type, {m, n}),
            device.array(DType::f32, {n, k}, "benchmark"),
            device.array(type, {n, k}, "benchmark", Layout::packed_forward),
            device.array(type, {n, k}, "benchmark", Layout::packed_backward)};
    device.launch(op::pack(std::span(&weight.tensor, 1), set.forward.tensor));
    device.launch(op::pack(std::span(&weight.tensor, 1), set.backward.tensor));
    sets_.push_back(std::move(set));
  }
  (void)once();
}

std::array<double, 3> ProductTimer::once() {
  const Set& set = sets_[next_++ % sets_.size()];
  const std::array<Call, 3> calls{op::matmul(set.x.tensor, set.forward.tensor, set.y.tensor),
                                  op::matmul_dx(set.y.tensor, set.backward.tensor, set.x.tensor),
                                  op::matmul_dw(set.y.tensor, set.x.tensor, set.dw.tensor, {})};
  const double flops =
      2.0 * static_cast<double>(shape_.m) * static_cast<double>(shape_.n) * static_cast<double>(shape_.k);
  std::array<double, 3> rates{};
  for (size_t i = 0; i < calls.size(); ++i) {
    const Stopwatch watch;
    device_.launch(calls[i]);
    device_.synchronize(device_.record(Queue::compute), Seconds(600));
    rates[i] = flops / watch.elapsed().count();
  }
  return rates;
}

ProductRates ProductTimer::round(int repetitions) {
  std::array<std::vector<double>, 3> all;
  for (int r = 0; r < repetitions; ++r) {
    const std::array<double, 3> rates = once();
    for (size_t i = 0; i < all.size(); ++i) all[i].push_back(rates[i]);
  }
  ProductRates out = shape_;
  out.forward = median(all[0]);
  out.input_gradient = median(all[1]);
  out.weight_gradient = median(all[2]);
  return out;
}

ProductRates measure_products(Device& device, int64_t m, int64_t n, int64_t k, DType type, int repetitions) {
  return ProductTimer(device, m, n, k, type).round(repetitions);
}

}  // namespace toroid::train
