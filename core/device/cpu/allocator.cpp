#include "core/device/cpu/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace toroid::cpu {
namespace {

// A sanitizer finds the use of freed memory only where it is really freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepsFreed = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kKeepsFreed = false;
#else
constexpr bool kKeepsFreed = true;
#endif
#else
constexpr bool kKeepsFreed = true;
#endif

constexpr std::align_val_t kAlignment{64};
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kMapped = 2 * kHugePage;  // from this size on, blocks are mapped
constexpr int64_t kPaged = 64 << 10;        // from this size on, sizes are in pages

// Small sizes in steps of a 64-byte line, larger ones in steps of a page: what is asked for again fits again.
int64_t rounded(int64_t bytes) {
  const int64_t step = bytes < kPaged ? 64 : 4096;
  return std::max<int64_t>((bytes + step - 1) / step * step, step);
}

int64_t most_for(int64_t bytes) {
  return bytes + bytes / 8 - bytes / 200;  // at most 12 % more
}

void* map(int64_t bytes) {
  // A mapping on a huge page's boundary, cut out of one that is a huge page longer.
  const auto size = static_cast<size_t>(bytes), spare = static_cast<size_t>(kHugePage);
  void* const whole =
      mmap(nullptr, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<char*>(whole);
  const size_t before = (spare - reinterpret_cast<uintptr_t>(whole) % spare) % spare;
  if (before > 0) munmap(begin, before);
  if (spare > before) munmap(begin + before + size, spare - before);
  madvise(begin + before, size, MADV_HUGEPAGE);  // a wish: without it the block is only slower
  return begin + before;
}

}  // namespace

void* CachingAllocator::take(int64_t bytes) {
  if (pages_ != nullptr && bytes >= kPaged && kKeepsFreed) {
    void* const address = pages_->take(bytes);
    if (address != nullptr) return address;
  }
  if (bytes >= kMapped && kKeepsFreed) return map(bytes);
  return ::operator new(static_cast<size_t>(bytes), kAlignment, std::nothrow);
}

void CachingAllocator::give_back(void* address, int64_t bytes) {
  if (pages_ != nullptr && pages_->give_back(address, bytes)) return;
  if (bytes >= kMapped && kKeepsFreed) {
    munmap(address, static_cast<size_t>(bytes));
  } else {
    ::operator delete(address, kAlignment);
  }
}

CachingAllocator::~CachingAllocator() {
  trim();
  for (const auto& [address, bytes] : size_of_) give_back(address, bytes);
}

void* CachingAllocator::reuse(int64_t bytes) {
  const auto found = cache_.lower_bound(bytes);
  if (found == cache_.end() || found->first > most_for(bytes)) return nullptr;
  void* const address = found->second;
  cached_ -= found->first;
  live_ += found->first;
  size_of_[address] = found->first;
  cache_.erase(found);
  return address;
}

void* CachingAllocator::allocate(int64_t bytes) {
  const int64_t size = rounded(bytes);
  void* address = reuse(size);
  if (address == nullptr) {
    // What the process holds is to stay near what the program really needed at once.
    const int64_t allowed = std::max(peak_, live_ + size) + peak_ / 512;
    trim(std::max<int64_t>(0, allowed - live_ - size));
    address = take(size);
    if (address == nullptr) {
      trim();
      address = take(size);
    }
    if (address == nullptr) return nullptr;
    size_of_[address] = size;
    live_ += size;
  }
  peak_ = std::max(peak_, live_);
  return address;
}

void CachingAllocator::free(void* address) {
  const auto found = size_of_.find(address);
  if (found == size_of_.end()) return;
  const int64_t size = found->second;
  size_of_.erase(found);
  live_ -= size;
  if (!kKeepsFreed) return give_back(address, size);
  cache_.emplace(size, address);
  cached_ += size;
}

void CachingAllocator::trim(int64_t keep_bytes) {
  while (cached_ > keep_bytes) {
    // The smallest block that is enough by itself, or the largest and then more.
    auto chosen = cache_.lower_bound(cached_ - keep_bytes);
    if (chosen == cache_.end()) chosen = std::prev(chosen);
    give_back(chosen->second, chosen->first);
    cached_ -= chosen->first;
    cache_.erase(chosen);
  }
}

}  // namespace toroid::cpu
