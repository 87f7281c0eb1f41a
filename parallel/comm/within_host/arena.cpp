#include "parallel/comm/within_host/arena.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <iterator>

#include "core/base/error.h"
#include "core/base/round_up.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1; older C libraries do not name it
#endif

namespace toroid {
namespace {

constexpr int64_t kPage = 4096, kHugePage = kHugePageBytes;

// Puts what lies in whole huge pages into such. A page is there only once it is touched; the rest of it then
// comes with the huge page, in one piece and without a fault for each page.
bool make_huge(std::byte* begin, int64_t bytes) {
  const int64_t whole = bytes / kHugePage * kHugePage;
  if (whole == 0) return true;
  for (int64_t at = 0; at < whole; at += kHugePage) {
    *reinterpret_cast<volatile std::byte*>(begin + at) = std::byte{0};
  }
  return ::madvise(begin, static_cast<size_t>(whole), MADV_COLLAPSE) == 0;
}

}  // namespace

Arena::Arena(int64_t bytes)
    : segment_(SharedSegment::anonymous(round_up(bytes, kHugePage))), bytes_(round_up(bytes, kHugePage)) {
  begin_ = segment_.data();
  free_.emplace(0, bytes_);
  void* const trial = take(kHugePage);
  const bool huge = trial != nullptr && make_huge(static_cast<std::byte*>(trial), kHugePage);
  if (!huge) throw SystemError("this system does not share memory in huge pages", errno);
  give_back(trial, kHugePage);
}

void* Arena::take(int64_t bytes) {
  const int64_t size = round_up(bytes, kPage);
  const int64_t alignment = size >= kHugePage ? kHugePage : kPage;
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const auto [first, length] = *range;
    const int64_t at = round_up(first, alignment);
    if (at + size > first + length) continue;
    free_.erase(range);
    if (at > first) free_.emplace(first, at - first);
    if (at + size < first + length) free_.emplace(at + size, first + length - at - size);
    make_huge(begin_ + at, size);  // a wish: without it the block is only slower
    return begin_ + at;
  }
  return nullptr;
}

bool Arena::give_back(void* address, int64_t bytes) {
  const int64_t offset = static_cast<std::byte*>(address) - begin_;
  if (offset < 0 || offset >= bytes_) return false;
  int64_t first = offset, last = offset + round_up(bytes, kPage);
  segment_.forget(first, last - first);
  const auto after = free_.lower_bound(first);
  if (after != free_.end() && after->first == last) {
    last += after->second;
    free_.erase(after);
  }
  const auto next = free_.lower_bound(first);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == first) {
      first = before->first;
      free_.erase(before);
    }
  }
  free_.emplace(first, last - first);
  return true;
}

PeerArena::PeerArena(const std::string& path, uint64_t begin, int64_t bytes)
    : segment_(SharedSegment::attach(path, bytes)), begin_(begin), bytes_(bytes) {}

const std::byte* PeerArena::view(uint64_t address, int64_t bytes) const {
  if (bytes > bytes_ || address < begin_ || address - begin_ > static_cast<uint64_t>(bytes_ - bytes))
    return nullptr;
  return segment_.data() + (address - begin_);
}

}  // namespace toroid
