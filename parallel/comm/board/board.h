// What the ranks of one host show each other outside MPI: for each rank its process and coordinate, and for
// each group that it is in, what it is doing there. It lives in memory that all of them map (or, in tests,
// that all threads see), holds only atomics, and works while a rank is stopped, killed or confused.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/op/op.h"

namespace toroid {

// One call of one group, as a rank published it when the call began there.
struct Published {
  uint64_t sequence = 0;
  int64_t bytes = 0;
  Phase phase = Phase::forward;
  bool done = false;
  int64_t begun_us = 0;  // when it began there, by the host's clock; as found on the board
  std::string operation, tensor;
};

// The variable by which a launcher names a directory in /dev/shm that the board is to stay in when its ranks
// are gone, and the board's name there.
inline constexpr const char* kJobDirectory = "TOROID_JOB_DIRECTORY";
inline constexpr const char* kBoardFile = "board";

class Board {
 public:
  static constexpr int kContexts = 32;  // groups of one rank
  static constexpr uint64_t kKept = 4;  // calls of a group that are remembered

  // The flags by which the members of a group take turns reading each other's memory. Tickets of a group
  // rise.
  struct alignas(64) Flags {
    std::atomic<uint64_t> ready{0};     // what `address` points to may be read for this ticket
    std::atomic<uint64_t> finished{0};  // this rank has read all that it needs for this ticket
    std::atomic<uint64_t> address{0};
    std::atomic<int64_t> bytes{0};
    // Where its checksums lie of what it lends, and for which ticket.
    std::atomic<uint64_t> checksums{0}, lent{0};
  };

  // How far a rank is in the rounds of a group that hands pieces on through a relay (relay.h). Rounds rise.
  struct alignas(64) Rounds {
    std::atomic<uint64_t> posted{0};              // its pieces lie in their slots
    std::atomic<uint64_t> summed{0};              // so does its sum
    std::atomic<uint64_t> taken{0};               // it has taken what it needs of its peers'
    std::array<std::atomic<int64_t>, 8> bytes{};  // of the calls that begin with round r, at r % 8
  };

  static int64_t bytes_for(int ranks);
  // `memory`: bytes_for(ranks) zero bytes, aligned to 64. Borrowed.
  Board(std::byte* memory, int ranks);

  int ranks() const { return ranks_; }
  void enter(int slot, int process);  // 0: has left in good order
  int process(int slot) const;
  void describe(int slot, std::string_view coordinate);
  std::string coordinate(int slot) const;
  // Rings the rank's bell: whoever sleeps there looks again.
  void ring(int slot);
  uint32_t rings(int slot) const;  // so far
  // Until it has rung more often than `rings`, and no longer than `longest`.
  void sleep(int slot, uint32_t rings, std::chrono::microseconds longest);
  std::atomic<uint64_t>& probe(int slot);  // an address that others try to read, to learn whether they can

  Flags& flags(int slot, int context);
  Rounds& rounds(int slot, int context);
  void publish(int slot, int context, const Published& call);
  // What `slot` said of its call number `sequence`, if it is remembered (the last few are).
  std::optional<Published> find(int slot, int context, uint64_t sequence) const;
  uint64_t last_sequence(int slot, int context) const;  // 0: none yet

 private:
  // Text and numbers as atomic words behind a version, odd while they are being written.
  struct alignas(64) Entry {
    static constexpr size_t kOperation = 3, kTensor = 9, kWords = 3 + kOperation + kTensor;
    std::atomic<uint64_t> version{0};
    std::array<std::atomic<uint64_t>, kWords> words{};
  };
  static constexpr size_t kCoordinate = 6;
  struct Group {
    Flags flags;
    Rounds rounds;
    std::atomic<uint64_t> last{0};
    std::array<Entry, kKept> calls;
  };
  struct alignas(64) Rank {
    std::atomic<int64_t> process{0};
    std::atomic<uint64_t> probe{0};
    std::array<std::atomic<uint64_t>, kCoordinate> coordinate{};
    std::atomic<uint32_t> rings{0}, sleepers{0};
  };
  Rank& rank(int slot) const { return reinterpret_cast<Rank*>(memory_)[slot]; }
  Group& group(int slot, int context) const;

  std::byte* memory_;
  int ranks_;
};

}  // namespace toroid
