#include "core/base/encoding.h"

#include <array>
#include <cstdint>
#include <utility>

namespace toroid {
namespace {

using namespace std::string_view_literals;

constexpr size_t kLookedAt = 8192;

// Whether `text`, taken as units of `width` bytes, is text rather than numbers: no control characters, no
// NUL, whole pairs of surrogates, and enough of ASCII (which markup, JSON and white space are in any script).
bool decodes(std::string_view text, size_t width, bool big_endian) {
  const size_t units = text.size() / width;
  size_t ascii = 0;
  bool begins_ascii = true, pair_open = false;
  for (size_t u = 0; u < units; ++u) {
    uint32_t c = 0;
    for (size_t b = 0; b < width; ++b) {
      const size_t at = u * width + (big_endian ? b : width - 1 - b);
      c = c << 8 | static_cast<unsigned char>(text[at]);
    }
    if (c < 0x20 && !(c >= '\t' && c <= '\r')) return false;
    if (c > 0x10FFFF || c == 0xFFFE || c == 0xFFFF) return false;
    const bool high = c >= 0xD800 && c < 0xDC00, low = c >= 0xDC00 && c < 0xE000;
    if ((high || low) && width == 4) return false;
    if (low != pair_open) return false;
    pair_open = high;
    if (c < 0x80) ++ascii;
    if (u < 2 && c >= 0x80) begins_ascii = false;
  }
  return (units >= 2 && begins_ascii) || (units >= 16 && ascii * 5 >= units);
}

}  // namespace

std::string_view wide_encoding(std::string_view beginning) {
  const std::string_view text = beginning.substr(0, kLookedAt);
  if (text.starts_with("\xFF\xFE\0\0"sv) || text.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (text.starts_with("\xFF\xFE"sv) || text.starts_with("\xFE\xFF"sv)) return "UTF-16";
  if (text.find('\0') == std::string_view::npos) return "";
  // The wider first: to UTF-16, an ASCII character of UTF-32 is itself and a NUL.
  if (decodes(text, 4, false)) return "UTF-32LE";
  if (decodes(text, 4, true)) return "UTF-32BE";
  if (decodes(text, 2, false)) return "UTF-16LE";
  if (decodes(text, 2, true)) return "UTF-16BE";
  return "";
}

std::string is_wide_text(std::string_view encoding) {
  return "is " + std::string(encoding) + " text, but UTF-8 is needed; convert it with iconv -f " +
         std::string(encoding) + " -t UTF-8";
}

std::string_view compressed_format(std::string_view beginning) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kMagics = {{
      {"\x1F\x8B"sv, "gzip"},
      {"\x28\xB5\x2F\xFD"sv, "zstd"},
      {"\xFD"
       "7zXZ\0"sv,
       "xz"},
      {"BZh"sv, "bzip2"},
      {"PK\x03\x04"sv, "zip"},
      {"7z\xBC\xAF\x27\x1C"sv, "7z"},
  }};
  for (const auto& [magic, format] : kMagics) {
    if (beginning.starts_with(magic)) return format;
  }
  return "";
}

}  // namespace toroid
