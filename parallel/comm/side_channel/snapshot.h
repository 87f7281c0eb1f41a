// What the board of a host says of one group, at one moment, as bytes that another host can read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm/board/board.h"
#include "parallel/comm/board/process_state.h"

namespace toroid {

struct RankSnapshot {
  int rank = 0;                                // of the world
  int process = 0;                             // 0: has left in good order
  ProcessState state = ProcessState::running;  // of that process
  uint64_t last = 0;                           // its newest call in the group; 0: none yet
  std::string coordinate;
  std::vector<Published> calls;  // those that the board remembers, oldest first
  const Published* find(uint64_t sequence) const;
};

using HostSnapshot = std::vector<RankSnapshot>;  // by rank, rising

// `ranks`: of the world, by slot.
HostSnapshot take_snapshot(const Board& board, std::span<const int> ranks, int context);

// Fixed little-endian layout with a version: a header and, for each rank, a row of `kRowBytes` in which
// unused bytes are zero.
struct SnapshotLayout {
  static constexpr size_t kHeaderBytes = 16;
  static constexpr size_t kOperation = 24, kTensor = 72, kCoordinate = 48;  // zero-padded
  static constexpr size_t kCallBytes = 24 + kOperation + kTensor;
  static constexpr size_t kRowBytes = 24 + kCoordinate + Board::kKept * kCallBytes;
  static constexpr size_t kMostRanks = 1024;
  static constexpr size_t kMostBytes = kHeaderBytes + kMostRanks * kRowBytes;
};
std::string encode(const HostSnapshot& snapshot);
// UserError where the bytes are not what encode() would write.
HostSnapshot decode_snapshot(std::string_view bytes);

}  // namespace toroid
