#include "train/checkpoint/compare.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "core/base/range.h"
#include "train/checkpoint/elements.h"

namespace toroid {
namespace {

constexpr int64_t kCompared = int64_t{1} << 18;  // elements

void compare_piece(std::span<const float> a, std::span<const float> b, int64_t first, TensorDifference& out,
                   double& squares_a, double& squares_b, double& squares) {
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    const bool same = std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]);
    if (!std::isfinite(x) || !std::isfinite(y)) {
      if (same) continue;
      if (out.different++ == 0) {
        out.index = first + static_cast<int64_t>(i);
        out.a_there = x;
        out.b_there = y;
      }
      ++out.not_finite;
      continue;
    }
    squares_a += x * x;
    squares_b += y * y;
    if (same) continue;
    const double away = std::abs(x - y);
    squares += away * away;
    if (out.different++ == out.not_finite || away > out.largest) {
      out.largest = away;
      out.index = first + static_cast<int64_t>(i);
      out.a_there = x;
      out.b_there = y;
    }
  }
}

void compare_values(CheckpointReader& a, CheckpointReader& b, TensorDifference& out) {
  const int64_t elements = out.a->elements;
  std::vector<float> left(static_cast<size_t>(std::min(elements, kCompared))), right(left.size());
  double squares_a = 0, squares_b = 0, squares = 0;
  for (int64_t first = 0; first < elements; first += kCompared) {
    const auto size = static_cast<size_t>(std::min(kCompared, elements - first));
    read_elements(a, *out.a, first, std::span(left).first(size));
    read_elements(b, *out.b, first, std::span(right).first(size));
    compare_piece(std::span(left).first(size), std::span(right).first(size), first, out, squares_a, squares_b,
                  squares);
  }
  out.norm_a = std::sqrt(squares_a);
  out.norm_b = std::sqrt(squares_b);
  out.norm_difference = std::sqrt(squares);
  out.kind = out.different > 0 ? Difference::values : Difference::none;
}

// Every key of both, in order.
template <typename Value, typename Text>
void compare_maps(const std::string& prefix, const std::map<std::string, Value>& a,
                  const std::map<std::string, Value>& b, const Text& text,
                  std::vector<ValueDifference>& out) {
  std::set<std::string> keys;
  for (const auto& [key, value] : a) keys.insert(key);
  for (const auto& [key, value] : b) keys.insert(key);
  for (const std::string& key : keys) {
    ValueDifference one{prefix + "." + key, {}, {}};
    if (const auto found = a.find(key); found != a.end()) one.a = text(found->second);
    if (const auto found = b.find(key); found != b.end()) one.b = text(found->second);
    if (one.a != one.b) out.push_back(std::move(one));
  }
}

std::string ranges_text(const std::vector<SequenceRange>& ranges) {
  std::string text;
  for (const SequenceRange& range : ranges) {
    text +=
        (text.empty() ? "[" : ", [") + std::to_string(range.first) + ", " + std::to_string(range.last) + ")";
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<TensorDifference> compare_tensors(CheckpointReader& a, CheckpointReader& b,
                                              const std::vector<std::string>& parts, bool read_all) {
  std::map<std::pair<std::string, std::string>, TensorDifference> tensors;
  const auto wanted = [&](const CheckpointTensor& tensor) {
    return parts.empty() || std::find(parts.begin(), parts.end(), tensor.part) != parts.end();
  };
  for (const CheckpointTensor& tensor : a.tensors()) {
    if (wanted(tensor)) tensors[{tensor.part, tensor.name}].a = tensor;
  }
  for (const CheckpointTensor& tensor : b.tensors()) {
    if (wanted(tensor)) tensors[{tensor.part, tensor.name}].b = tensor;
  }
  std::vector<TensorDifference> out;
  for (auto& [key, one] : tensors) {
    one.part = key.first;
    one.name = key.second;
    if (!one.a || !one.b) {
      one.kind = one.a ? Difference::only_a : Difference::only_b;
    } else if (one.a->shape != one.b->shape) {
      one.kind = Difference::shape;
    } else if (read_all || one.a->type != one.b->type || one.a->hash != one.b->hash) {
      compare_values(a, b, one);
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<ValueDifference> compare_states(const CheckpointState& a, const CheckpointState& b) {
  std::vector<ValueDifference> out;
  const auto compare = [&](const char* name, const std::string& left, const std::string& right) {
    if (left != right) out.push_back({name, left, right});
  };
  compare("step", std::to_string(a.step), std::to_string(b.step));
  compare("data.next_sequence", std::to_string(a.next_sequence), std::to_string(b.next_sequence));
  compare("data.skipped", ranges_text(a.skipped), ranges_text(b.skipped));
  compare_maps(
      "counters", a.counters, b.counters, [](int64_t value) { return std::to_string(value); }, out);
  compare_maps(
      "scalars", a.scalars, b.scalars, [](double value) { return number(value); }, out);
  compare_maps(
      "texts", a.texts, b.texts, [](const std::string& value) { return value; }, out);
  return out;
}

}  // namespace toroid
