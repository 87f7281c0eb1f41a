// Collectives among a few ranks of one host through the relay (relay.h), in rounds of one slot:
//
//   all_gather, broadcast, all_to_all   put a piece of the own share; take the peers' pieces
//   reduce_scatter                      put a block of each peer's rows; sum the own rows over all ranks
//   all_reduce                          the same, put the sum, and take the peers' sums
//
// Up to kSlots rounds are under way, so that ranks wait for each other seldom. Sums are balanced binary trees
// over the ranks in order, so that they serve deterministic mode; what travels is exact.
#pragma once

#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/comm/within_host/host_transfer.h"
#include "parallel/comm/within_host/relay.h"

namespace toroid {

// What a job counts up its group's rounds by: at least 1, the same on all ranks.
int64_t relay_rounds(const HostJob& job, int ranks, const Relay& relay);

class RelayTransfer final : public WatchedTransfer {
 public:
  // `board` and `relay` outlive this. job.ticket is the first round; it needs no staging memory.
  RelayTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info, Board& board,
                const Relay& relay, HostJob job);
  Progress step() override;
  bool rings() const override { return true; }

 private:
  struct Piece {  // elements of a share: [first, first + count)
    int64_t first = 0, count = 0;
  };
  bool sums() const;
  Board::Rounds& rounds(int place) const {
    return board_.rounds(members().slots[static_cast<size_t>(place)], members().context);
  }
  std::byte* slot(int place, int64_t round) const {
    return relay_.slot(members().slots[static_cast<size_t>(place)], members().context,
                       job_.ticket + static_cast<uint64_t>(round));
  }
  int64_t boundary(int place) const { return job_.elements * place / members().size(); }
  int64_t bytes(int64_t elements) const { return elements * bytes_of(job_.type); }
  // What a round moves of the share of the rank at `place`.
  Piece piece(int place, int64_t round) const;
  int block_of(int reader, int writer) const { return reader < writer ? reader : reader - 1; }

  void tell(std::atomic<uint64_t> Board::Rounds::*counter, int64_t round);
  bool met();
  bool reached(std::atomic<uint64_t> Board::Rounds::*counter, int64_t round) const;
  bool try_post();
  bool try_sum();
  bool try_take();
  void post(int64_t round);
  void sum(int64_t round);
  void take(int64_t round);
  void take_block(int peer, int64_t round, int64_t block, std::byte* to, int64_t count_bytes);
  void copy(std::byte* to, const std::byte* from, int64_t count_bytes);
  // Of a block of the slot of the rank at `place`, at the slot's end.
  Checksum& sent(int place, int64_t round, int64_t block) const;
  void note(int64_t round, int64_t block, const std::byte* from, int64_t count_bytes) const;
  void check(int place, int64_t round, int64_t block, const std::byte* got, int64_t count_bytes) const;

  Board& board_;
  Relay relay_;
  HostJob job_;
  int64_t count_;  // rounds
  int64_t piece_elements_;
  bool streams_;
  int64_t posted_ = 0, summed_ = 0, taken_ = 0;
  int met_ = 0;  // peers known to make the same call
  int64_t moved_bytes_ = 0;
};

}  // namespace toroid
