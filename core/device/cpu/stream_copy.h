// Copies and sums that will not be read again soon.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace toroid::cpu {

// Arrays of at least this size, over all that share the caches, do not stay in them.
inline constexpr int64_t kStreamedBytes = int64_t{16} << 20;

// As memcpy, past the caches: a store then does not first read the line that it overwrites, and what lies in
// the cache stays there.
void stream_copy(std::byte* to, const std::byte* from, int64_t bytes);
// How many arrays sum_rows() adds.
constexpr bool sums_in_one_pass(int rows) {
  return rows == 2 || rows == 4 || rows == 8;
}
// to = the sum of as many arrays in one pass, as the balanced binary tree over them in order: each is read
// once, and nothing is written but the sum. `streams`: past the caches, as above; `to` may else be one of
// them.
void sum_rows(float* to, std::span<const float* const> rows, int64_t elements, bool streams);
// As stream_copy into `to` and memcpy into `kept`, which is read soon; `from` is read once.
void stream_copy_and_keep(std::byte* to, std::byte* kept, const std::byte* from, int64_t bytes);

}  // namespace toroid::cpu
