#include "core/base/checksum.h"

#include <bit>
#include <cstdlib>
#include <cstring>

namespace toroid {

Checksum checksum(std::span<const std::byte> bytes) {
  Checksum out;
  const size_t words = (bytes.size() + 3) / 4;
  for (size_t i = 0; i < words; ++i) {
    uint32_t word = 0;
    std::memcpy(&word, bytes.data() + 4 * i, i + 1 < words ? 4 : bytes.size() - 4 * i);
    out.sum += word;
    out.weighted += (i + 1) * word;
  }
  return out;
}

std::optional<ChangedWord> changed_word(const Checksum& expected, const Checksum& found, int64_t words) {
  const auto change = static_cast<int64_t>(found.sum - expected.sum);
  const auto weighted = static_cast<int64_t>(found.weighted - expected.weighted);
  constexpr int64_t kMost = int64_t{1} << 32;
  if (change == 0 || change <= -kMost || change >= kMost || weighted % change != 0) return std::nullopt;
  const int64_t number = weighted / change;
  if (number < 1 || number > words) return std::nullopt;
  ChangedWord out{number - 1, change, {}};
  const auto size = static_cast<uint64_t>(std::abs(change));
  if (std::has_single_bit(size)) out.bit = std::countr_zero(size);
  return out;
}

}  // namespace toroid
