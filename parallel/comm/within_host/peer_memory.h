// Reading another rank's memory, on the same host, without its help.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "parallel/comm/board/board.h"
#include "parallel/comm/within_host/arena.h"

namespace toroid {

class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  // Where `bytes` at `address` of the rank in `slot` can be read in place; nullptr where they cannot.
  virtual const std::byte* view(int slot, uint64_t address, int64_t bytes) const = 0;
  // Copies to.size() bytes at `address` of the rank in `slot`. SystemError where that cannot be done.
  virtual void read(int slot, uint64_t address, std::span<std::byte> to) const = 0;
};

// Ranks that are threads of this process. `views`: whether in place; else what is read is copied.
class ThreadMemory final : public PeerMemory {
 public:
  explicit ThreadMemory(bool views = true) : views_(views) {}
  const std::byte* view(int slot, uint64_t address, int64_t bytes) const override;
  void read(int slot, uint64_t address, std::span<std::byte> to) const override;

 private:
  bool views_;
};

// Ranks that are processes: in place what lies in their arenas, the rest by process_vm_readv, which takes the
// right to trace them (allow_reads_by_peers(), and a kernel or container that grants it).
class ProcessMemory final : public PeerMemory {
 public:
  explicit ProcessMemory(const Board& board) : board_(board) {}  // a view, copied
  // By slot; none where a rank's cannot be mapped.
  void attach(std::vector<std::optional<PeerArena>> arenas) { arenas_ = std::move(arenas); }
  const std::byte* view(int slot, uint64_t address, int64_t bytes) const override;
  void read(int slot, uint64_t address, std::span<std::byte> to) const override;

 private:
  Board board_;
  std::vector<std::optional<PeerArena>> arenas_;
};

void allow_reads_by_peers();

}  // namespace toroid
