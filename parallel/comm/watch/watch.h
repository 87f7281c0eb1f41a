// Watches over collectives: tells the peers what this rank is doing (board.h), and when one of them does
// something else, is gone or does not come, ends the wait with a PeerError that names it. Ranks of this host
// are looked at all the time, those of others are asked about once, when a wait is to end.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/device/transfer.h"
#include "parallel/comm/board/board.h"
#include "parallel/comm/side_channel/side_channel.h"

namespace toroid {

// The members of one group, as all transfers of it share them.
struct GroupMembers {
  int context = 0;            // number of the group, the same on all its ranks
  int place = 0;              // this rank's in the group
  std::vector<int> ranks;     // of the world, by place
  std::vector<int> slots;     // on this host's board, by place; -1 on another host
  int per_host = 0;           // ranks of the group on each host that it is on; 0: not everywhere as many
  bool host_by_host = false;  // the ranks of a host follow each other
  int first = 0;              // of a part of a group: the place of its first rank there
  int size() const { return static_cast<int>(ranks.size()); }
  bool on_one_host() const;
};

class Watch {
 public:
  // `board` may be nullptr: then only the deadline is kept. It outlives the watch. `others` too: then nothing
  // is known of other hosts.
  Watch(Board* board, int world_rank, int slot, Seconds deadline,
        std::shared_ptr<const SideChannel> others = nullptr);

  static constexpr double kLearnedFactor = 20;
  static constexpr uint64_t kLearnedCalls = 1000;

  // One call under way. `sequence` counts the group's calls from 1; 0 is a message between two ranks, which
  // the others know nothing of.
  struct Call {
    const GroupMembers* group = nullptr;
    uint64_t sequence = 0;
    const CollectiveInfo* info = nullptr;
  };
  // False where a peer has said that it makes another call here: then nothing is to be exchanged, and check()
  // ends the wait, once it is known who is out of step.
  bool arrive(const Call& call);
  void finish(const Call& call);
  // What the other ranks of this host have said of the call. For those that a library carries out whether or
  // not the ranks agree: it has ended well once all are known to have made the same one.
  enum class Agreement : uint8_t { unknown, same, different };
  Agreement agreement(const Call& call) const;
  // Asked now and then while `call` waits and nothing comes.
  void check(const Call& call, Seconds waited);
  [[noreturn]] void wrong_size(const Call& call, int peer, int64_t expected, int64_t received) const;
  // How long to wait between two checks.
  Seconds interval() const;
  // For how long a mismatch waits for the other ranks' calls, which tell who is out of step.
  static Seconds patience(Seconds deadline);

  // The longest that a call waits for its peers.
  Seconds deadline() const { return deadline_; }
  // From now on a call of a step waits no longer than kLearnedFactor times the longest that one of its phase
  // has waited, once kLearnedCalls have ended well; never less than `floor`, nor longer than deadline(). From
  // any thread.
  void learn(Seconds floor) { floor_.store(floor.count()); }
  // A call has waited so long for its next bytes, and got them.
  void waited(const Call& call, Seconds time);
  Seconds deadline(const Call& call) const;
  Board* board() const { return board_; }

 private:
  void publish(const Call& call, bool done);
  // What the other hosts say; empty where they were not asked.
  using Answers = std::vector<HostAnswer>;
  Answers ask(const Call& call) const;
  // What is wrong between the ranks' calls, and whether all have said theirs.
  struct Mismatch {
    std::string text;
    bool all_known = true;
  };
  Mismatch compare(const Call& call) const;
  Mismatch compare(const Call& call, uint64_t sequence, const Published& own, const Answers& answers) const;
  std::string mismatch_between_hosts(const Call& call, const Answers& answers) const;
  void find_lost(const Call& call) const;
  [[noreturn]] void expired(const Call& call, Seconds waited) const;
  // The last that is known of a rank; nothing where it is on a host that said nothing.
  struct Peer {
    std::string coordinate, host;  // "": this one
    int process = 0;
    ProcessState state = ProcessState::running;
    uint64_t last = 0;
    std::optional<Published> call;  // its last one
  };
  std::optional<Peer> look(const GroupMembers& group, int place, const Answers& answers) const;
  std::string who(const GroupMembers& group, int place, const Answers& answers = {}) const;
  std::string missing(const Call& call, const Answers& answers) const;
  std::string silent(const Call& call, const Answers& answers) const;
  std::string halted(const Answers& answers) const;

  Board* board_;
  int rank_, slot_;
  Seconds deadline_;
  std::atomic<double> floor_{0};  // 0: nothing is learned
  // By phase of a step; one thread writes.
  struct Waits {
    std::atomic<uint64_t> calls{0};
    std::atomic<double> longest{0};  // seconds
  };
  std::array<Waits, static_cast<size_t>(Phase::setup)> waits_{};
  std::shared_ptr<const SideChannel> others_;
};

}  // namespace toroid
