#include "core/op/checksum.h"

#include <algorithm>

#include "core/base/checksum.h"
#include "core/op/check.h"

namespace toroid::op {
namespace {

Cost checksum_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = static_cast<int64_t>(call.operands.size() - 1) * 2 * call[0].elements();
  return cost;
}

void checksum_reference(const Call& call) {
  auto* to = call.operands.back().tensor.as<uint64_t>();
  for (size_t array = 0; array + 1 < call.operands.size(); ++array) {
    const std::span bytes(call[array].data(), static_cast<size_t>(call[array].bytes()));
    const auto block = static_cast<size_t>(bytes_of(call[array].type) * kChecksumBlock);
    for (size_t at = 0; at < bytes.size(); at += block) {
      const Checksum found = toroid::checksum(bytes.subspan(at, std::min(block, bytes.size() - at)));
      *to++ = found.sum;
      *to++ = found.weighted;
    }
  }
}

Cost compare_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements();
  return cost;
}

void compare_reference(const Call& call) {
  const auto *const expected = call[0].as<const uint64_t>(), *const found = call[1].as<const uint64_t>();
  auto* const out = call[2].as<uint64_t>();
  std::fill_n(out, kDifferingSize, uint64_t{0});
  for (int64_t row = call[0].rows() - 1; row >= 0; --row) {
    const uint64_t by = found[2 * row] - expected[2 * row];
    const uint64_t weighted_by = found[2 * row + 1] - expected[2 * row + 1];
    if (by == 0 && weighted_by == 0) continue;
    ++out[Differing::count];
    out[Differing::first] = static_cast<uint64_t>(row);
    out[Differing::sum] = by;
    out[Differing::weighted] = weighted_by;
  }
}

}  // namespace

constinit const OpKind checksum_kind{
    .name = "checksum", .cost = checksum_cost, .reference = checksum_reference};
constinit const OpKind compare_checksums_kind{
    .name = "compare_checksums", .cost = compare_cost, .reference = compare_reference};

Call checksum(std::span<const Tensor> arrays, const Tensor& sums) {
  Call call{&checksum_kind, {}, {}, {}, Phase::optimizer};
  const int64_t n = arrays[0].elements();
  for (const Tensor& array : arrays) {
    const int64_t size = bytes_of(array.type);
    check((size == 4 || size == 2) && array.dense() && array.elements() == n, "checksum",
          "dense arrays of one length, of types of 4 or 2 bytes", {{"array", array}});
    call.operands.push_back({array, Access::in});
  }
  const int64_t rows = static_cast<int64_t>(arrays.size()) * checksum_blocks(n);
  check(sums.type == DType::i64 && sums.shape == Shape{rows, 2} && sums.dense(), "checksum",
        "sums i64[arrays * blocks, 2]", {{"array", arrays[0]}, {"sums", sums}});
  call.operands.push_back({sums, Access::out});
  return call;
}

Call compare_checksums(const Tensor& expected, const Tensor& found, const Tensor& differing) {
  check(expected.type == DType::i64 && expected.shape.rank() == 2 && expected.shape[1] == 2 &&
            expected.dense() && found.type == DType::i64 && found.shape == expected.shape && found.dense(),
        "compare_checksums", "i64[n, 2] each", {{"expected", expected}, {"found", found}});
  check(differing.type == DType::i64 && is_vector(differing, kDifferingSize), "compare_checksums",
        "differing i64[4]", {{"differing", differing}});
  return {&compare_checksums_kind,
          {{expected, Access::in}, {found, Access::in}, {differing, Access::out}},
          {},
          {},
          Phase::optimizer};
}

}  // namespace toroid::op
