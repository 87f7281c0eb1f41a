// Memory of the CPU device. A training step asks for the same sizes again and again, so freed blocks are kept
// and handed out to the next request that wastes little of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

namespace toroid::cpu {

// Memory that is not the process's own alone, such as what the ranks of a host can all read.
class PageSource {
 public:
  virtual ~PageSource() = default;
  // Aligned as allocate() says; nullptr where it has none left.
  virtual void* take(int64_t bytes) = 0;
  // False where it is not of this source.
  virtual bool give_back(void* address, int64_t bytes) = 0;
};

class CachingAllocator {
 public:
  // `pages`: where blocks of 64 KB and more come from as long as it has any; nullptr: from the system.
  explicit CachingAllocator(std::shared_ptr<PageSource> pages = nullptr) : pages_(std::move(pages)) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;  // owns memory
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // 64-byte aligned (large blocks: on a 2 MiB boundary, with huge pages asked for); never null. nullptr when
  // the machine has no such memory left even after the cache has been given back.
  void* allocate(int64_t bytes);
  void free(void* address);
  // Gives cached blocks back to the system until at most `keep_bytes` are cached.
  void trim(int64_t keep_bytes = 0);

  int64_t live_bytes() const { return live_; }      // handed out, as rounded
  int64_t cached_bytes() const { return cached_; }  // freed and kept

 private:
  void* reuse(int64_t bytes);
  void* take(int64_t bytes);
  void give_back(void* address, int64_t bytes);

  std::shared_ptr<PageSource> pages_;
  std::unordered_map<void*, int64_t> size_of_;  // of every block that is live
  std::multimap<int64_t, void*> cache_;         // by size
  int64_t live_ = 0, peak_ = 0, cached_ = 0;
};

}  // namespace toroid::cpu
