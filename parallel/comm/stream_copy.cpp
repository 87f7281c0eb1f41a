#include "parallel/comm/stream_copy.h"

#include <algorithm>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace toroid {
namespace {

constexpr size_t kLine = 64;

// From an address to its line's end, and no further than `bytes`.
size_t head_of(const void* address, int64_t bytes) {
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(address) % kLine) % kLine;
  return std::min(static_cast<size_t>(bytes), head);
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

void stream_sum(float* to, const float* a, const float* b, int64_t elements) {
  int64_t done = 0;
#ifdef __SSE2__
  constexpr int64_t kFloats = kLine / sizeof(float);
  const auto head = static_cast<int64_t>(head_of(to, 4 * elements) / sizeof(float));
  for (; done < head; ++done) to[done] = a[done] + b[done];
  for (; done + kFloats <= elements; done += kFloats) {
    for (int64_t i = done; i < done + kFloats; i += 4)
      _mm_stream_ps(to + i, _mm_add_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)));
  }
  _mm_sfence();
#endif
  for (; done < elements; ++done) to[done] = a[done] + b[done];
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
