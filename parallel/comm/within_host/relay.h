// Memory that the ranks of one host all map, through which they hand each other pieces of arrays: a rank puts
// a piece into a slot, its peers take it from there, and while slots are few it never leaves the cache.
// Compared with reading a peer's own array this costs no system call and no pinning of pages, and main memory
// is read once a piece, not once a reader.
//
// Each rank has kSlots slots for each group that it is in. A group counts rounds from 1 on; round r goes
// through slot r % kSlots.
#pragma once

#include <cstddef>
#include <cstdint>

#include "parallel/comm/board/board.h"

namespace toroid {

class Relay {
 public:
  static constexpr int kSlots = 4;
  // With more ranks a round is so many small pieces, and so many ranks to wait for, that it does not pay.
  static constexpr int kMostRanks = 16;

  // Address space; memory is taken as slots are used.
  static int64_t bytes_for(int ranks) { return ranks * Board::kContexts * kSlots * slot_bytes_for(ranks); }
  // `memory`: bytes_for(ranks) bytes, aligned to 64. Borrowed.
  Relay(std::byte* memory, int ranks) : memory_(memory), slot_bytes_(slot_bytes_for(ranks)) {}

  int64_t slot_bytes() const { return slot_bytes_; }
  std::byte* slot(int rank, int context, uint64_t round) const {
    const int64_t index =
        (int64_t{rank} * Board::kContexts + context) * kSlots + static_cast<int64_t>(round % kSlots);
    return memory_ + index * slot_bytes_;
  }

 private:
  static int64_t slot_bytes_for(int ranks);

  std::byte* memory_;
  int64_t slot_bytes_;
};

}  // namespace toroid
