// Collectives among ranks of one host that read each other's memory: no messages, no copies but the one that
// is wanted. A rank says where its array is and that it may be read, reads what it needs of the others', and
// is done when all have read what they need of it: ranks wait for each other only at the beginning and the
// end (all_reduce: once more between), whoever shares their cores. Arrays in the ranks' arenas (arena.h) are
// read in place, others by the kernel. Sums are taken in blocks that stay in the cache, as the balanced
// binary tree over the ranks in order, so that they serve deterministic mode; what travels is exact.
//
// Where it is checked, a rank takes checksums of what it lends, once it has read what it needs, and does not
// let go of its peers' arrays before it has compared what it read with theirs.
//
// With n ranks each copies n - 1 shares in an all_gather, and reads n shares and writes one in a
// reduce_scatter.
#pragma once

#include <vector>

#include "core/comm/communicator.h"
#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/comm/within_host/peer_memory.h"

namespace toroid {

struct HostJob {
  enum class Operation : uint8_t {
    all_gather,
    reduce_scatter,
    all_reduce,
    broadcast,
    all_to_all,
    barrier,
    sum,     // the first half of all_reduce: each rank has the sums of its places, in place
    spread,  // and the second: each rank's places reach all
  };
  Operation operation = Operation::barrier;
  DType type = DType::u8;
  Combine how = Combine::sum;
  int64_t elements = 0;  // of the whole array: gathered, or before scattering
  int places = 0;        // of the array, dealt to the ranks in turn; 0: one for each
  int root = 0;
  std::byte* in = nullptr;   // this rank's share, for all_gather; else the whole array
  std::byte* out = nullptr;  // the whole array, for reduce_scatter this rank's share
  uint64_t ticket = 0;       // of the group; all_reduce takes this one and the next
  std::byte* staging = nullptr;
  WireChecks* checks = nullptr;  // who reads compares what it read with what its owner says; on all alike
};

// What the staging memory for `ranks` ranks takes.
int64_t host_staging_bytes(const HostJob& job, int ranks);

class HostTransfer final : public WatchedTransfer {
 public:
  // `board` and `memory` outlive this.
  HostTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info, Board& board,
               const PeerMemory& memory, HostJob job);
  Progress step() override;
  bool rings() const override { return true; }

 private:
  enum class Phase : uint8_t { open, meet, sum, meet_again, copy, lend, compare, close };
  void announce(const std::byte* address, int64_t bytes, uint64_t ticket);
  void announce_sums();
  bool all_ready(uint64_t ticket);
  bool all_finished() const;
  void finish();
  // Passes on whether all have come so far; the last to come wakes the others.
  bool come(bool all);
  struct Share {  // of one rank, and where it goes
    std::byte* to = nullptr;
    int64_t from = 0;  // offset in the rank's array
    int64_t bytes = 0;
  };
  Share share_of(int peer, int piece) const;
  bool copy_some();
  bool sum_some();
  // Checksums of what this rank lends, a part at a time; then that they are there.
  void plan_lending(bool summed);
  bool lend_some();
  bool all_lent() const;
  void compare_read();
  void note_read(int place, const std::byte* bytes, int64_t count_bytes);
  // Of the rank at `place`; which entry of its table is of what this rank read of it.
  int entry_read(int place, int piece) const;
  Checksum* table() const;
  // The same where all are read in place.
  void sum_in_one_pass(int64_t offset_bytes, int64_t count, std::byte* to);
  void sum_block(int64_t offset_bytes, int64_t count, std::byte* to);
  void copy(int place, int64_t offset_bytes, std::byte* to, int64_t count_bytes);
  int pieces() const { return job_.places == 0 ? 1 : job_.places / members().size(); }  // of each rank
  int64_t boundary(int place) const { return job_.elements * place / (pieces() * members().size()); }
  int64_t bytes(int64_t elements) const { return elements * bytes_of(job_.type); }
  Board::Flags& flags(int place) const {
    return board_.flags(members().slots[static_cast<size_t>(place)], members().context);
  }
  // Where they can be read in place; nullptr where they cannot.
  const std::byte* view(int place, int64_t offset_bytes, int64_t count_bytes) const;
  bool views(int64_t count_bytes) const;  // that many bytes of each peer's array
  void read(int place, int64_t offset_bytes, std::byte* to, int64_t count_bytes) const;
  int64_t block_elements() const;

  Board& board_;
  const PeerMemory& memory_;
  HostJob job_;
  bool streams_;  // past the cache, which would not hold the array anyway
  Phase phase_ = Phase::open;
  int piece_ = 0;       // of a rank's places
  int peer_ = 0;        // how far on from this rank the peer is whose share is being copied
  int64_t offset_ = 0;  // within the place
  int met_ = 0;         // peers known to be ready
  struct Lent {         // an entry of this rank's table, and the bytes that it is of
    int entry = 0;
    const std::byte* from = nullptr;
    int64_t bytes = 0, done = 0;
    RunningChecksum sum;
  };
  std::vector<Lent> lent_;
  size_t lending_ = 0;
  struct Read {
    RunningChecksum sum;
    int64_t bytes = 0;
  };
  std::vector<Read> read_;  // of each piece of each rank
  bool last_ = false;       // as far as is known: it has not looked yet
};

}  // namespace toroid
