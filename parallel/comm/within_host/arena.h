// Memory of one rank that the other ranks of its host map too, so that collectives read a peer's array where
// it lies. It has no name and takes memory only as blocks are taken from it; a block given back is returned
// to the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "core/device/cpu/allocator.h"
#include "parallel/comm/within_host/shared_segment.h"

namespace toroid {

class Arena final : public cpu::PageSource {
 public:
  // `bytes` of address space. SystemError where memory cannot be shared, or not in huge pages, without which
  // what computes on it would be slower than in a process's own memory.
  explicit Arena(int64_t bytes);

  void* take(int64_t bytes) override;
  bool give_back(void* address, int64_t bytes) override;

  std::string path() const { return segment_.path(); }  // where peers attach to it, as long as it lives
  const std::byte* begin() const { return begin_; }
  int64_t bytes() const { return bytes_; }

 private:
  SharedSegment segment_;
  std::byte* begin_;  // the first huge page's boundary
  int64_t bytes_;
  std::map<int64_t, int64_t> free_;  // offset: bytes
};

// Another rank's arena: a byte that is at `address` there is at view(address, ...) here.
class PeerArena {
 public:
  // SystemError where it cannot be mapped.
  PeerArena(const std::string& path, uint64_t begin, int64_t bytes);
  // nullptr where not all of the bytes are in the arena.
  const std::byte* view(uint64_t address, int64_t bytes) const;

 private:
  SharedSegment segment_;
  uint64_t begin_;
  int64_t bytes_;
};

}  // namespace toroid
