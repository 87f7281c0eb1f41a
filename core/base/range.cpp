#include "core/base/range.h"

#include <array>
#include <charconv>

#include "core/base/error.h"

namespace toroid {
namespace {

template <class T>
[[noreturn]] void refuse(std::string_view name, const std::string& state, const T& low, const T& high) {
  throw UserError(std::string(name) + " is " + state + "; it must be between " + low + " and " + high);
}

}  // namespace

std::string number(double value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

void check_range(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    refuse(name, std::to_string(value), std::to_string(low), std::to_string(high));
  }
}

void check_range(std::string_view name, double value, double low, double high) {
  // Written so that NaN is refused too.
  if (!(value >= low && value <= high)) refuse(name, number(value), number(low), number(high));
}

void check_range(std::string_view name, bool is_set, int64_t value, int64_t low, int64_t high) {
  if (!is_set) refuse(name, "not set", std::to_string(low), std::to_string(high));
  check_range(name, value, low, high);
}

void check_range(std::string_view name, bool is_set, double value, double low, double high) {
  if (!is_set) refuse(name, "not set", number(low), number(high));
  check_range(name, value, low, high);
}

}  // namespace toroid
