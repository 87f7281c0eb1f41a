// Stores past the caches fill whole lines: 64 bytes at once where the processor has such registers, which
// some copy more quickly than by four stores of 16 (docs/performance.md).
#include "core/device/cpu/stream_copy.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/base/error.h"
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/stream_copy.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kLine = 64;
// Processors fetch ahead on their own no further than to a page's end.
constexpr int64_t kCopiedAhead = 32 * kLine, kSummedAhead = 16 * kLine;

// From an address to its line's end, and no further than `bytes`.
int64_t head_of(const void* address, int64_t bytes) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(address) % kLine);
  return std::min(bytes, (kLine - past) % kLine);
}

// `to` past the caches and, where it is given, `kept` into them.
void copy_lines(std::byte* to, std::byte* kept, const std::byte* from, int64_t bytes) {
  const hn::CappedTag<uint8_t, kLine> tag;
  const auto width = static_cast<int64_t>(hn::Lanes(tag));
  const auto plainly = [&](int64_t first, int64_t count) {
    std::memcpy(to + first, from + first, static_cast<size_t>(count));
    if (kept != nullptr) std::memcpy(kept + first, from + first, static_cast<size_t>(count));
  };
  int64_t at = head_of(to, bytes);
  plainly(0, at);
  for (; at + kLine <= bytes; at += kLine) {
    hwy::Prefetch(from + at + kCopiedAhead);
    for (int64_t i = at; i < at + kLine; i += width) {
      const auto part = hn::LoadU(tag, reinterpret_cast<const uint8_t*>(from + i));
      hn::Stream(part, tag, reinterpret_cast<uint8_t*>(to + i));
      if (kept != nullptr) hn::StoreU(part, tag, reinterpret_cast<uint8_t*>(kept + i));
    }
  }
  hwy::FlushStream();  // before anybody is told that the bytes are there
  plainly(at, bytes - at);
}

// The balanced binary tree over load(first), load(first + 1), ...
template <int Count, class Load>
HWY_INLINE auto tree(const Load& load, int first) {
  if constexpr (Count == 1) {
    return load(first);
  } else {
    const auto a = tree<Count / 2>(load, first), b = tree<Count / 2>(load, first + Count / 2);
    if constexpr (std::is_same_v<decltype(a), const float>) {
      return a + b;
    } else {
      return hn::Add(a, b);
    }
  }
}

template <int Count, bool Streams>
void sum_lines(float* to, const float* const* rows, int64_t elements) {
  const hn::CappedTag<float, kLine / sizeof(float)> tag;
  const auto width = static_cast<int64_t>(hn::Lanes(tag));
  constexpr int64_t kFloats = kLine / sizeof(float), kAhead = kSummedAhead / sizeof(float);
  int64_t at = 0;
  const auto one_by_one = [&](int64_t end) {
    for (; at < end; ++at) to[at] = tree<Count>([&](int row) { return rows[row][at]; }, 0);
  };
  one_by_one(head_of(to, 4 * elements) / static_cast<int64_t>(sizeof(float)));
  for (; at + kFloats <= elements; at += kFloats) {
    for (int row = 0; row < Count; ++row) hwy::Prefetch(rows[row] + at + kAhead);
    for (int64_t i = at; i < at + kFloats; i += width) {
      const auto sum = tree<Count>([&](int row) HWY_ATTR { return hn::LoadU(tag, rows[row] + i); }, 0);
      if constexpr (Streams) {
        hn::Stream(sum, tag, to + i);
      } else {
        hn::StoreU(sum, tag, to + i);
      }
    }
  }
  if constexpr (Streams) hwy::FlushStream();
  one_by_one(elements);
}

template <int Count>
void sum_lines(float* to, const float* const* rows, int64_t elements, bool streams) {
  streams ? sum_lines<Count, true>(to, rows, elements) : sum_lines<Count, false>(to, rows, elements);
}

void sum_2(float* to, const float* const* rows, int64_t elements, bool streams) {
  sum_lines<2>(to, rows, elements, streams);
}
void sum_4(float* to, const float* const* rows, int64_t elements, bool streams) {
  sum_lines<4>(to, rows, elements, streams);
}
void sum_8(float* to, const float* const* rows, int64_t elements, bool streams) {
  sum_lines<8>(to, rows, elements, streams);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(copy_lines);
HWY_EXPORT(sum_2);
HWY_EXPORT(sum_4);
HWY_EXPORT(sum_8);

}  // namespace

void stream_copy(std::byte* to, const std::byte* from, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(copy_lines)(to, nullptr, from, bytes);
}

void stream_copy_and_keep(std::byte* to, std::byte* kept, const std::byte* from, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(copy_lines)(to, kept, from, bytes);
}

void sum_rows(float* to, std::span<const float* const> rows, int64_t elements, bool streams) {
  switch (rows.size()) {
    case 2:
      return HWY_DYNAMIC_DISPATCH(sum_2)(to, rows.data(), elements, streams);
    case 4:
      return HWY_DYNAMIC_DISPATCH(sum_4)(to, rows.data(), elements, streams);
    case 8:
      return HWY_DYNAMIC_DISPATCH(sum_8)(to, rows.data(), elements, streams);
    default:
      throw InternalError("sums in one pass are over 2, 4 or 8 arrays");
  }
}

}  // namespace toroid::cpu
#endif
