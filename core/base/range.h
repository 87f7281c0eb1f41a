// Checks of numbers that came from a config or a flag: UserError with the name, the value and what it may be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace toroid {

// The shortest text that reads back as `value`: "0.0003", "1e-06", "256".
std::string number(double value);

// low <= value <= high, and `value` is a number.
void check_range(std::string_view name, int64_t value, int64_t low, int64_t high);
void check_range(std::string_view name, double value, double low, double high);

// The same for a field without a default: `is_set` is the message's has_...().
void check_range(std::string_view name, bool is_set, int64_t value, int64_t low, int64_t high);
void check_range(std::string_view name, bool is_set, double value, double low, double high);

}  // namespace toroid
