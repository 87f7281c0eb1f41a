// Copies and sums that will not be read again soon.
#pragma once

#include <cstddef>
#include <cstdint>

namespace toroid {

// Arrays of at least this size, over all ranks of a host, do not stay in its caches.
inline constexpr int64_t kStreamedBytes = int64_t{16} << 20;

// As memcpy, past the caches: a store then does not first read the line that it overwrites, and what lies in
// the cache stays there. memcpy itself where the processor has no such stores.
void stream_copy(std::byte* to, const std::byte* from, int64_t bytes);
// to = a + b in the same way; `to` is at an address that a float may have.
void stream_sum(float* to, const float* a, const float* b, int64_t elements);
// As stream_copy into `to` and memcpy into `kept`, which is read soon; `from` is read once.
void stream_copy_and_keep(std::byte* to, std::byte* kept, const std::byte* from, int64_t bytes);

}  // namespace toroid
