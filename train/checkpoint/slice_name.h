// How a slice is named in a rank's file: NAME where it is the whole tensor, else NAME@OFFSET.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace toroid {

struct SliceName {
  std::string_view tensor;  // of the text that was parsed
  int64_t offset = 0;       // flat index in the whole tensor
};

// Nothing where what follows the @ is no offset.
inline std::optional<SliceName> parse_slice_name(std::string_view stored) {
  const size_t at = stored.find('@');
  if (at == std::string_view::npos) return SliceName{stored, 0};
  int64_t offset = 0;
  const char* end = stored.data() + stored.size();
  const auto [stop, error] = std::from_chars(stored.data() + at + 1, end, offset);
  if (error != std::errc() || stop != end || offset < 0) return std::nullopt;
  return SliceName{stored.substr(0, at), offset};
}

}  // namespace toroid
