#include "train/bench/product_rate.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"

namespace toroid::train {
namespace {

constexpr int64_t kSetBytes = int64_t{48} << 20;  // operand sets are cycled through at least this much memory
constexpr size_t kMostSets = 16;

struct Set {
  Array x, y, dw, forward, backward;
};

Array random_array(Device& device, DType type, Shape shape, const char* name) {
  Array values = device.array(DType::f32, shape, "benchmark");
  device.launch(op::init_normal(values.tensor.reshape({shape.elements()}),
                                {random_key(1, Purpose::synthetic, name), 0, 1}));
  Array out = device.array(type, shape, "benchmark");
  device.launch(op::cast(values.tensor, out.tensor));
  return out;
}

}  // namespace

double median(std::vector<double> values) {
  require(!values.empty(), "a median is of at least one value");
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

ProductRates measure_products(Device& device, int64_t m, int64_t n, int64_t k, DType type, int repetitions) {
  const int64_t bytes = (m * k + m * n + 2 * n * k) * bytes_of(type) + n * k * 4;
  const size_t count =
      std::clamp<size_t>(static_cast<size_t>(kSetBytes / std::max<int64_t>(bytes, 1)), 1, kMostSets);
  std::vector<Set> sets;
  const Array weight = random_array(device, type, {n, k}, "weight");
  for (size_t i = 0; i < count; ++i) {
    Set set{random_array(device, type, {m, k}, "x"), random_array(device, type, {m, n}, "y"),
            device.array(DType::f32, {n, k}, "benchmark"),
            device.array(type, {n, k}, "benchmark", Layout::packed_forward),
            device.array(type, {n, k}, "benchmark", Layout::packed_backward)};
    device.launch(op::pack(std::span(&weight.tensor, 1), set.forward.tensor));
    device.launch(op::pack(std::span(&weight.tensor, 1), set.backward.tensor));
    sets.push_back(std::move(set));
  }
  std::array<std::vector<double>, 3> rates;
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  for (int round = -1; round < repetitions; ++round) {  // the first round warms up
    const Set& set = sets[static_cast<size_t>(round + 1) % sets.size()];
    const std::array<Call, 3> calls{op::matmul(set.x.tensor, set.forward.tensor, set.y.tensor),
                                    op::matmul_dx(set.y.tensor, set.backward.tensor, set.x.tensor),
                                    op::matmul_dw(set.y.tensor, set.x.tensor, set.dw.tensor, {})};
    for (size_t i = 0; i < calls.size(); ++i) {
      const Stopwatch watch;
      device.launch(calls[i]);
      device.synchronize(device.record(Queue::compute), Seconds(600));
      if (round >= 0) rates[i].push_back(flops / watch.elapsed().count());
    }
  }
  return {m, n, k, type, median(rates[0]), median(rates[1]), median(rates[2])};
}

}  // namespace toroid::train
