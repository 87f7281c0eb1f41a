// Plays a plan's moves as messages. An array is cut into the plan's chunks; a message carries a segment of at
// most a few hundred kilobytes of one run of chunks, two are under way each way with each peer, and what is
// to be added is received into staging memory first. A round begins when the round before has ended on this
// rank.
#pragma once

#include <deque>
#include <vector>

#include "core/comm/communicator.h"
#include "parallel/comm/messages/transport.h"
#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/schedule/schedule.h"

namespace toroid {

// What moves. Addresses are those of the arrays once they are there; all nullptr on a device without numbers.
struct MessageJob {
  schedule::Plan plan;
  DType type = DType::u8;
  int64_t elements = 0;  // of the whole array, which the plan's chunks cut
  std::byte* sent = nullptr;
  std::byte* received = nullptr;  // the same array as `sent`, but for all_to_all
  Combine how = Combine::sum;
  bool bf16_wire = false;  // for fp32 arrays: every message is rounded, on the sender's side too
  struct Copy {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    int64_t bytes = 0;
  };
  Copy before, after;
  int64_t segment_bytes = 0;  // on all ranks alike
  std::byte* staging = nullptr;
  WireChecks* checks = nullptr;  // behind what goes to a peer in a round goes a checksum of it; on all alike
};

// The size of a segment for a group of `ranks`, the same on all of them, and the staging memory that a rank
// needs for a job.
int64_t segment_bytes_for(schedule::Algorithm algorithm, int ranks);
int64_t staging_bytes(const MessageJob& job);

class MessageTransfer final : public WatchedTransfer {
 public:
  // `transport` outlives this; `context` is the number under which its messages travel.
  MessageTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
                  Transport& transport, int context, MessageJob job);
  Progress step() override;

 private:
  struct Run {  // elements [first, last)
    int64_t first = 0, last = 0;
    bool combine = false, precedes = false;  // as in schedule::Move
  };
  struct Flight {
    Transport::Request request;
    Run part;
    std::byte* bytes = nullptr;
    bool checksum = false;  // of all before it
  };
  // All that goes one way between this rank and one peer in one round, in order.
  struct Lane {
    int peer = 0;
    bool receive = false;
    std::vector<Run> runs;
    size_t posting = 0, ending = 0;  // indices of runs
    int64_t posted = 0, ended = 0;   // elements, within them
    std::deque<Flight> flights;
    int64_t parity = 0;
    RunningChecksum sum;  // of what was sent, or has come
    int64_t summed_bytes = 0;
    Checksum sent;                          // as it travels
    bool checks = false, checking = false;  // a checksum follows; it is on its way
    bool done() const { return ending == runs.size() && !checks; }
  };
  void begin_round();
  bool advance_lane(size_t index);
  bool post(Lane& lane, size_t index);
  bool end(Lane& lane, size_t index);
  bool arrived(Lane& lane, Flight& flight);
  void add_to_sum(Lane& lane, const std::byte* bytes, int64_t count) const;
  void post_checksum(Lane& lane);
  void pass(Lane& lane);
  bool sum_preceding(size_t index);
  bool earlier_sums_wait(size_t index, const Run& part) const;
  int64_t boundary(int64_t chunk) const;
  int64_t wire_bytes(int64_t elements) const;
  std::byte* at(std::byte* array, int64_t element) const { return array + element * bytes_of(job_.type); }

  Transport& transport_;
  int context_;
  MessageJob job_;
  int round_ = -1;
  size_t next_move_ = 0;
  std::vector<Lane> lanes_;
  int64_t moved_bytes_ = 0;  // in this step
};

}  // namespace toroid
