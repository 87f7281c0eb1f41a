#include "data/shard/format.h"

#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr size_t kHeader = 34;  // magic, version, type, two counts
constexpr uint8_t kInt32 = 4, kUint16 = 8;

template <typename T>
void put(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
T get(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace

std::string encode_index(std::span<const int32_t> lengths, int32_t vocab) {
  const uint64_t n = lengths.size();
  std::string out(kMagic);
  out.reserve(kHeader + n * 20 + 8);
  put<uint64_t>(1, out);
  put<uint8_t>(token_width(vocab) == 2 ? kUint16 : kInt32, out);
  put<uint64_t>(n, out);
  put<uint64_t>(n + 1, out);
  for (const int32_t length : lengths) put(length, out);
  int64_t offset = 0;
  for (const int32_t length : lengths) {
    put(offset, out);
    offset += int64_t{length} * token_width(vocab);
  }
  for (uint64_t document = 0; document <= n; ++document) put(static_cast<int64_t>(document), out);
  return out;
}

std::vector<int64_t> decode_index(std::string_view bytes, int32_t vocab, const std::string& name) {
  const auto refuse = [&name](const std::string& why) {
    throw UserError("token index '" + printable(name, 4096) + "' is refused: " + why);
  };
  if (bytes.size() < kHeader) {
    refuse("it has " + std::to_string(bytes.size()) + " bytes, but its header alone has " +
           std::to_string(kHeader));
  }
  if (bytes.substr(0, kMagic.size()) != kMagic)
    refuse("it does not begin with MMIDIDX (it is not a Megatron index)");
  const auto version = get<uint64_t>(bytes, 9);
  if (version != 1) refuse("its version is " + std::to_string(version) + ", but 1 is known");
  const auto type = get<uint8_t>(bytes, 17);
  const int64_t width = token_width(vocab);
  const uint8_t expected = width == 2 ? kUint16 : kInt32;
  if (type != expected) {
    refuse("its ids have type " + std::to_string(type) + ", but a vocabulary of " + std::to_string(vocab) +
           " is stored as type " + std::to_string(expected));
  }
  const auto n = get<uint64_t>(bytes, 18);
  const auto m = get<uint64_t>(bytes, 26);
  if (n == 0) refuse("it holds no documents");
  // Bounded by the file's size before anything is multiplied or allocated.
  if (n > (bytes.size() - kHeader) / 20 || m != n + 1 || bytes.size() != kHeader + n * 20 + 8) {
    refuse("it states " + std::to_string(n) + " sequences and " + std::to_string(m) +
           " document bounds, which its " + std::to_string(bytes.size()) + " bytes do not hold");
  }
  std::vector<int64_t> starts(n + 1);
  const size_t pointers = kHeader + 4 * n, documents = pointers + 8 * n;
  int64_t tokens = 0;
  for (uint64_t i = 0; i < n; ++i) {
    starts[i] = tokens;
    const auto length = get<int32_t>(bytes, kHeader + 4 * i);
    if (length <= 0) refuse("document " + std::to_string(i) + " has " + std::to_string(length) + " tokens");
    const auto pointer = get<int64_t>(bytes, pointers + 8 * i);
    if (pointer != tokens * width) {
      refuse("document " + std::to_string(i) + " begins at byte " + std::to_string(pointer) +
             ", but those before it end at " + std::to_string(tokens * width));
    }
    const auto bound = get<int64_t>(bytes, documents + 8 * i);
    if (bound != static_cast<int64_t>(i)) {
      refuse("document bound " + std::to_string(i) + " is " + std::to_string(bound) +
             ", but one sequence a document is needed");
    }
    tokens += length;  // at most 2^31 times the file's size: no overflow
  }
  if (get<int64_t>(bytes, documents + 8 * n) != static_cast<int64_t>(n))
    refuse("its last document bound is wrong");
  starts[n] = tokens;
  return starts;
}

}  // namespace toroid
