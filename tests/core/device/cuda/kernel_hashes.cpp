#include "tests/core/device/cuda/kernel_hashes.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <string_view>

#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "core/op/kinds.h"
#include "core/op/reference.h"
#include "tests/core/device/cuda/hash_cases.h"

namespace toroid::testing {

uint64_t FixedWords::next() {
  uint64_t z = ++at_ * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

namespace {

// Bits of a significand.
int bits_of(DType type) {
  return type == DType::bf16 ? 8 : 24;
}

}  // namespace

Tensor FixedInputs::numbers(uint64_t which, DType type, Shape shape, double unit, int64_t row_stride) {
  const Tensor tensor = bench_.output(type, shape, row_stride);
  const int bits = bits_of(type);
  const double step = std::ldexp(unit, 2 - bits), half = std::ldexp(1.0, bits - 1);
  FixedWords words(which);
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (double& value : values) value = (static_cast<double>(words.next() >> (64 - bits)) - half) * step;
  op::store(tensor, values);
  return tensor;
}

Tensor FixedInputs::positive(uint64_t which, DType type, Shape shape, double unit) {
  const int bits = bits_of(type) - 1;
  FixedWords words(which);
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (double& value : values)
    value = (1 + std::ldexp(static_cast<double>(words.next() >> (64 - bits)), -bits)) * unit;
  return bench_.filled(type, shape, values);
}

Tensor FixedInputs::integers(uint64_t which, Shape shape, int64_t first, int64_t last) {
  FixedWords words(which);
  std::vector<int64_t> values(static_cast<size_t>(shape.elements()));
  for (int64_t& value : values)
    value = first + static_cast<int64_t>(words.next() % static_cast<uint64_t>(last - first + 1));
  return bench_.integers(shape, values);
}

namespace {

struct Listed {
  std::string kind, name;
  int64_t operand;
  enum Bits { exact, close } bits;
  uint64_t hash;  // 0 of what is close: it is nobody's measure
  bool operator==(const Listed&) const = default;
};
using enum Listed::Bits;

const std::vector<Listed>& listed() {
  static const std::vector<Listed> all = {
#include "tests/core/device/cuda/kernel_hashes.list"
  };
  return all;
}

std::string text_of(const Listed& one) {
  return "{\"" + one.kind + "\", \"" + one.name + "\", " + std::to_string(one.operand) + ", " +
         (one.bits == exact ? "exact, 0x" + hex(one.hash) : "close, 0") + "},";
}

constexpr std::string_view kLegend =
    R"(// Kind, case, operand, hash of its bits (core/base/tensor_hash.h). Written by kernel_hashes.cpp, which says how.
// exact: IEEE arithmetic in one order, with elementary functions made of it; the same on the host and on every GPU.
// close: bf16, where activations with exponentials take the GPU's own (exp2_fast, inverse_fast of numbers.h), and attention
// these and tensor cores, whose order of sums is their own (fragments.h). They have no hash that is to be met.
)";

HashCases hash_cases() {
  HashCases cases;
  add_layer_hash_cases(cases);
  add_product_hash_cases(cases);
  add_update_hash_cases(cases);
  return cases;
}

// A row for each output, hashes of what is close included.
std::vector<Listed> run_case(Devices& devices, const HashCase& one) {
  Workbench bench(devices);
  FixedInputs inputs(bench);
  const Call call = one.build(inputs);
  EXPECT_EQ(call.kind, one.kind) << one.name;
  bench.run(call);
  std::vector<Listed> rows;
  for (size_t i = 0; i < call.operands.size(); ++i) {
    const Tensor& tensor = call[i];
    if (!tensor || call.operands[i].access == Access::in) continue;
    if (tensor.type == DType::f32) {
      // Also what a kernel did not write. Its bits are a GPU's own, where it is made by arithmetic.
      for (const double value : op::load(tensor)) {
        if (!std::isnan(value)) continue;
        ADD_FAILURE() << describe(call) << ", operand " << i << " has a NaN";
        break;
      }
    }
    rows.push_back({std::string(one.kind->name), one.name, static_cast<int64_t>(i), one.exact ? exact : close,
                    tensor_hash(bytes_in(tensor), bytes_of(tensor.type), 0)});
  }
  return rows;
}

TEST_P(KernelHashes, are_those_of_the_list_where_arithmetic_is_exact) {
  std::vector<Listed> found;
  for (const HashCase& one : hash_cases()) {
    const std::vector<Listed> rows = run_case(devices(), one), again = run_case(devices(), one);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].hash, again[i].hash) << text_of(rows[i]) << " has other bits when it ran again";
      found.push_back(rows[i]);
      if (rows[i].bits == exact) continue;
      std::cout << "close: " << rows[i].kind << ", " << rows[i].name << ", operand " << rows[i].operand
                << ": " << hex(rows[i].hash) << "\n";
      found.back().hash = 0;
    }
  }
  if (const char* const file = std::getenv("TOROID_KERNEL_HASHES"); file != nullptr) {
    std::ofstream out(file);
    out << kLegend;
    for (const Listed& one : found) out << text_of(one) << "\n";
    ASSERT_TRUE(out.flush()) << file << " cannot be written";
  }
  const std::string rewritten =
      "; where a change of numbers is meant: TOROID_KERNEL_HASHES=tests/core/device/cuda/kernel_hashes.list "
      "build/release/tests/cuda_contract_test --gtest_filter='*KernelHashes*', and build again";
  ASSERT_EQ(found.size(), listed().size()) << "the list has another number of rows" << rewritten;
  int differ = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == listed()[i]) continue;
    ADD_FAILURE() << "found    " << text_of(found[i]) << "\nthe list " << text_of(listed()[i]);
    ++differ;
  }
  EXPECT_EQ(differ, 0) << "hashes are not those of the list" << rewritten;
}

TEST_P(KernelHashes, are_there_for_every_kind) {
  std::set<const OpKind*> hashed;
  for (const HashCase& one : hash_cases()) hashed.insert(one.kind);
  for (const OpKind* kind : op::all_kinds()) {
    if (devices().with(1).kernels().find(*kind) == nullptr) continue;
    EXPECT_TRUE(hashed.contains(kind)) << kind->name << " has no case in hash_cases_*.cpp";
  }
}

}  // namespace
}  // namespace toroid::testing
