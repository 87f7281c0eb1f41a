#include "core/op/wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/op/check.h"

namespace toroid::op {
namespace {

Cost compress_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 5 * call[0].elements();
  return cost;
}

Cost sum_wires_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 2 * call[0].rows() * call[1].elements();
  return cost;
}

void compress_block(float* y, std::byte* wire) {
  float largest = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    if (!(std::abs(y[i]) <= largest)) largest = std::abs(y[i]);
    if (std::isnan(largest)) break;
  }
  const float scale = quantised_scale(largest);
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    const float q = scale > 0 ? std::nearbyint(y[i] / scale) : 0.0f;
    wire[i] = static_cast<std::byte>(static_cast<int8_t>(q));
    y[i] -= q * scale;
  }
  const uint16_t bits = to_bf16(scale);
  std::memcpy(wire + kQuantBlock, &bits, sizeof bits);
}

void compress_reference(const Call& call) {
  auto* const x = call[0].as<float>();
  const auto* const residual = call[1].as<const float>();
  const int64_t n = call[0].elements();
  for (int64_t i = 0; i < n; ++i) x[i] += residual[i];
  if (call[2].type == DType::bf16) {
    auto* const wire = call[2].as<uint16_t>();
    for (int64_t i = 0; i < n; ++i) {
      wire[i] = to_bf16(x[i]);
      x[i] -= from_bf16(wire[i]);
    }
    return;
  }
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    compress_block(x + b * kQuantBlock, call[2].data() + b * kQuantBlockBytes);
  }
}

float sent(const Tensor& wires, int64_t row, int64_t i) {
  if (wires.type == DType::f32) return wires.as<float>()[row * wires.row_stride + i];
  if (wires.type == DType::bf16) return from_bf16(wires.as<uint16_t>()[row * wires.row_stride + i]);
  const std::byte* const block = wires.data() + row * wires.row_stride + i / kQuantBlock * kQuantBlockBytes;
  uint16_t scale = 0;
  std::memcpy(&scale, block + kQuantBlock, sizeof scale);
  return static_cast<float>(static_cast<int8_t>(block[i % kQuantBlock])) * from_bf16(scale);
}

// Of the rows [first, first + count).
float sum_as_tree(const Tensor& wires, int64_t first, int64_t count, int64_t i) {
  if (count == 1) return sent(wires, first, i);
  const auto half = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count)) / 2);
  return sum_as_tree(wires, first, half, i) + sum_as_tree(wires, first + half, count - half, i);
}

float sum_in_turn(const Tensor& wires, int64_t i) {
  // What was rounded is added to zero, as pods have always done; what was not keeps the sign of a zero.
  float sum = wires.type == DType::f32 ? sent(wires, 0, i) : 0.0f + sent(wires, 0, i);
  for (int64_t row = 1; row < wires.rows(); ++row) sum += sent(wires, row, i);
  return sum;
}

void sum_wires_reference(const Call& call) {
  const bool tree = call.get<RowOrder>() == RowOrder::tree;
  auto* const total = call[1].as<float>();
  for (int64_t i = 0; i < call[1].elements(); ++i)
    total[i] = tree ? sum_as_tree(call[0], 0, call[0].rows(), i) : sum_in_turn(call[0], i);
}

bool fits(const Tensor& wire, int64_t columns, int64_t n) {
  return wire.layout == Layout::plain &&
         (((wire.type == DType::bf16 || wire.type == DType::f32) && columns == n) ||
          (wire.type == DType::u8 && n % kQuantBlock == 0 && columns == quantised_bytes(n)));
}

}  // namespace

float quantised_scale(float largest) {
  if (largest <= kLeastQuantised) return 0;
  if (!std::isfinite(largest)) return std::numeric_limits<float>::quiet_NaN();
  const auto bits = std::bit_cast<uint32_t>(largest / 127.0f);
  return std::bit_cast<float>((bits + 0xffffu) & 0xffff0000u);
}

constinit const OpKind compress_kind{
    .name = "compress", .cost = compress_cost, .reference = compress_reference};
constinit const OpKind sum_wires_kind{
    .name = "sum_wires", .cost = sum_wires_cost, .reference = sum_wires_reference};

Call compress(const Tensor& x, const Tensor& residual, const Tensor& wire) {
  const int64_t n = x.elements();
  check(x.type == DType::f32 && x.shape == Shape{n} && x.dense() && residual.type == DType::f32 &&
            residual.shape == x.shape && residual.dense() && wire.shape.rank() == 1 && wire.dense() &&
            wire.type != DType::f32 && fits(wire, wire.elements(), n),
        "compress", "x and residual f32[n], wire bf16[n] or u8[quantised_bytes(n)]",
        {{"x", x}, {"residual", residual}, {"wire", wire}});
  return {&compress_kind,
          {{x, Access::inout}, {residual, Access::in}, {wire, Access::out}},
          {},
          {},
          Phase::optimizer};
}

Call sum_wires(const Tensor& wires, const Tensor& total, RowOrder order) {
  check(total.type == DType::f32 && total.shape == Shape{total.elements()} && total.dense() &&
            wires.shape.rank() == 2 && wires.rows() > 0 && fits(wires, wires.columns(), total.elements()) &&
            (order == RowOrder::in_turn || wires.type != DType::u8),
        "sum_wires", "total f32[n], wires f32[P, n], bf16[P, n] or, in turn, u8[P, quantised_bytes(n)]",
        {{"wires", wires}, {"total", total}});
  return {&sum_wires_kind, {{wires, Access::in}, {total, Access::out}}, order, {}, Phase::optimizer};
}

}  // namespace toroid::op
