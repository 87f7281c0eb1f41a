// Reading another rank's memory, on the same host, without its help.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "parallel/comm/board.h"

namespace toroid {

class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  // Copies to.size() bytes at `address` of the rank in `slot`. SystemError where that cannot be done.
  virtual void read(int slot, uint64_t address, std::span<std::byte> to) const = 0;
};

// Ranks that are threads of this process.
class ThreadMemory final : public PeerMemory {
 public:
  void read(int slot, uint64_t address, std::span<std::byte> to) const override;
};

// Ranks that are processes: process_vm_readv, which takes the right to trace them (allow_reads_by_peers(),
// and a kernel or container that grants it).
class ProcessMemory final : public PeerMemory {
 public:
  explicit ProcessMemory(const Board& board) : board_(board) {}  // a view, copied
  void read(int slot, uint64_t address, std::span<std::byte> to) const override;

 private:
  Board board_;
};

void allow_reads_by_peers();

}  // namespace toroid
