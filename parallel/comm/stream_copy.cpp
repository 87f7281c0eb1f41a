#include "parallel/comm/stream_copy.h"

#include <algorithm>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr size_t kLine = 64;

// From an address to its line's end, and no further than `bytes`.
size_t head_of(const void* address, int64_t bytes) {
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(address) % kLine) % kLine;
  return std::min(static_cast<size_t>(bytes), head);
}

// The balanced binary tree over load(first), load(first + 1), ...
template <int Count, class Load>
auto tree(const Load& load, int first) {
  if constexpr (Count == 1) {
    return load(first);
  } else {
    return tree<Count / 2>(load, first) + tree<Count / 2>(load, first + Count / 2);
  }
}

template <int Count>
void sum_rows(float* to, const float* const* rows, int64_t elements, bool streams) {
  int64_t done = 0;
  const auto one_by_one = [&](int64_t end) {
    for (; done < end; ++done) to[done] = tree<Count>([&](int row) { return rows[row][done]; }, 0);
  };
#ifdef __SSE2__
  constexpr int64_t kFloats = kLine / sizeof(float);
  constexpr int64_t kAhead =
      16 * kFloats;  // processors fetch ahead on their own no further than to a page's end
  one_by_one(static_cast<int64_t>(head_of(to, 4 * elements) / sizeof(float)));
  const auto lines = [&](const auto& store) {
    for (; done + kFloats <= elements; done += kFloats) {
      for (int row = 0; row < Count; ++row)
        _mm_prefetch(reinterpret_cast<const char*>(rows[row] + done + kAhead), _MM_HINT_T0);
      for (int64_t i = done; i < done + kFloats; i += 4)
        store(to + i, tree<Count>([&](int row) { return _mm_loadu_ps(rows[row] + i); }, 0));
    }
  };
  if (streams) {
    lines([](float* at, __m128 sum) { _mm_stream_ps(at, sum); });
    _mm_sfence();
  } else {
    lines([](float* at, __m128 sum) { _mm_storeu_ps(at, sum); });
  }
#else
  (void)streams;
#endif
  one_by_one(elements);
}

}  // namespace

void stream_copy(std::byte* to, const std::byte* from, int64_t bytes) {
  auto left = static_cast<size_t>(bytes);
#ifdef __SSE2__
  const size_t head = head_of(to, bytes);
  std::memcpy(to, from, head);
  to += head, from += head, left -= head;
  for (; left >= kLine; to += kLine, from += kLine, left -= kLine) {
    auto* const line = reinterpret_cast<__m128i*>(to);
    const auto* const source = reinterpret_cast<const __m128i*>(from);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(line, a);
    _mm_stream_si128(line + 1, b);
    _mm_stream_si128(line + 2, c);
    _mm_stream_si128(line + 3, d);
  }
  _mm_sfence();  // before anybody is told that the bytes are there
#endif
  std::memcpy(to, from, left);
}

void sum_rows(float* to, std::span<const float* const> rows, int64_t elements, bool streams) {
  switch (rows.size()) {
    case 2:
      return sum_rows<2>(to, rows.data(), elements, streams);
    case 4:
      return sum_rows<4>(to, rows.data(), elements, streams);
    case 8:
      return sum_rows<8>(to, rows.data(), elements, streams);
    default:
      throw InternalError("sums in one pass are over 2, 4 or 8 arrays");
  }
}

void stream_copy_and_keep(std::byte* to, std::byte* kept, const std::byte* from, int64_t bytes) {
  auto left = static_cast<size_t>(bytes);
#ifdef __SSE2__
  const size_t head = head_of(to, bytes);
  std::memcpy(to, from, head);
  std::memcpy(kept, from, head);
  to += head, kept += head, from += head, left -= head;
  for (; left >= kLine; to += kLine, kept += kLine, from += kLine, left -= kLine) {
    for (size_t i = 0; i < kLine; i += 16) {
      const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), part);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(kept + i), part);
    }
  }
  _mm_sfence();
#endif
  std::memcpy(to, from, left);
  std::memcpy(kept, from, left);
}

}  // namespace toroid
