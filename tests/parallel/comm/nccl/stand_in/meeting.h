// Where the ranks of the stand-in meet, and what a communicator moves between them: memory that all map, with
// a channel for each pair of ranks and direction, through which messages go piece by piece.
#pragma once

#include <nccl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/comm/within_host/shared_segment.h"

namespace toroid::testing {

inline constexpr int kMostRanks = 16, kMostSplits = 128;
inline constexpr size_t kPieceBytes = size_t{64} << 10;  // of a message, at a time

struct State {
  std::mutex mutex;  // of all that is not atomic
  std::map<std::string, std::pair<int, ncclResult_t>, std::less<>> failures;
  std::map<int, ncclResult_t> broken;  // ranks whose work moves nothing; ncclSuccess: and who say nothing
  std::map<std::string, SharedSegment> segments;  // by path, those that this process has made
  std::map<size_t, int> registered;
  std::set<int> ctas;
  std::minstd_rand random;
  std::atomic<int> longest_delay{0};
  std::atomic<bool> any_broken{false};
  std::atomic<int> alive{0}, aborted{0};
};
inline State& nccl_state() {
  static State one;
  return one;
}

inline ncclResult_t begin_call(std::string_view name) {
  State& all = nccl_state();
  const std::lock_guard lock(all.mutex);
  const auto found = all.failures.find(name);
  if (found == all.failures.end() || --found->second.first != 0) return ncclSuccess;
  return found->second.second;
}

inline std::optional<ncclResult_t> broken(int rank) {
  State& all = nccl_state();
  if (!all.any_broken) return std::nullopt;
  const std::lock_guard lock(all.mutex);
  const auto found = all.broken.find(rank);
  return found == all.broken.end() ? std::nullopt : std::optional(found->second);
}

inline void take_a_while() {
  State& all = nccl_state();
  const int longest = all.longest_delay;
  if (longest == 0) return;
  unsigned microseconds = 0;
  {
    const std::lock_guard lock(all.mutex);
    microseconds = static_cast<unsigned>(all.random()) % static_cast<unsigned>(longest);
  }
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

// Nothing has no address.
inline void copy_bytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

// Between looks at memory that a peer writes: there may be more ranks than cores.
class Patience {
 public:
  void wait() {
    if (++looks_ < 50) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(looks_, 200)));
  }
  void moved() { looks_ = 0; }

 private:
  int looks_ = 0;
};

// What all messages of a call have in common; those that do not match never meet.
struct Header {
  uint64_t sequence = 0;  // of the communicator's collectives; 0: a send and its receive
  uint64_t bytes = 0;     // of the whole message
  int32_t kind = 0, type = 0, how = 0, root = 0;
  bool operator==(const Header&) const = default;
};

// From one rank to another: one piece at a time.
struct alignas(64) Channel {
  std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> read;
  Header header;
  std::array<std::byte, kPieceBytes> bytes;
};

struct alignas(64) Splitting {  // what a rank says when the communicator is split
  std::atomic<int> said;
  int color, key;
  std::atomic<int> made;  // by the first rank of a part: `path` is where it meets
  std::array<char, NCCL_UNIQUE_ID_BYTES> path;
};

// Memory that is zero before it is used.
struct Meeting {
  std::atomic<int> joined, finalized;
  std::array<std::array<Splitting, kMostRanks>, kMostSplits> splits;
  static int64_t bytes_for(int ranks) {
    return static_cast<int64_t>(sizeof(Meeting)) +
           int64_t{ranks} * ranks * static_cast<int64_t>(sizeof(Channel));
  }
  Channel& channel(int from, int to, int ranks) {
    return reinterpret_cast<Channel*>(this + 1)[from * ranks + to];
  }
};

// This process's, until whoever made it has ended.
inline std::string make_meeting(int ranks) {
  SharedSegment segment = SharedSegment::anonymous(Meeting::bytes_for(ranks));
  std::string path = segment.path();
  State& all = nccl_state();
  const std::lock_guard lock(all.mutex);
  all.segments.emplace(path, std::move(segment));
  return path;
}

struct Message {
  int peer = 0;
  bool receive = false;
  std::byte* data = nullptr;
  Header header;
  uint64_t moved = 0;  // bytes
  uint64_t mark = 0;   // of a send: what `read` comes to
  bool done = false;
};

// Shared by a communicator's owner and what is still on streams.
struct Core {
  Core(std::string place, int of, int own, int own_in_first, bool waits)
      : path(std::move(place)), ranks(of), rank(own), first_rank(own_in_first), blocking(waits) {}

  std::string path;
  int ranks, rank;
  int first_rank;  // in the communicator that was made first
  bool blocking;
  std::optional<SharedSegment> segment;
  std::atomic<bool> aborted{false}, ready{false}, failed{false}, finalizing{false};
  std::atomic<bool> taking{false};  // a call is under way
  std::atomic<int> pending{0};      // pieces of work that are to run or do
  bool connected = false;
  uint64_t sequence = 0;
  int splits = 0;

  Meeting& meeting() const { return *reinterpret_cast<Meeting*>(segment->data()); }

  void join() {
    take_a_while();
    segment.emplace(SharedSegment::attach(path, Meeting::bytes_for(ranks)));
    ++meeting().joined;
    Patience patience;
    while (meeting().joined < ranks && !aborted) patience.wait();
    ready = true;
  }
  // Whether anything moved.
  bool advance(Message& message) const {
    Channel& channel = message.receive ? meeting().channel(message.peer, rank, ranks)
                                       : meeting().channel(rank, message.peer, ranks);
    if (message.receive) {
      if (channel.written.load(std::memory_order_acquire) == channel.read.load()) return false;
      if (!(channel.header == message.header)) return false;  // hangs
      const uint64_t bytes = std::min<uint64_t>(kPieceBytes, message.header.bytes - message.moved);
      std::memcpy(message.data + message.moved, channel.bytes.data(), bytes);
      message.moved += bytes;
      message.done = message.moved == message.header.bytes;
      channel.read.fetch_add(1, std::memory_order_release);
      return true;
    }
    const bool taken = channel.read.load(std::memory_order_acquire) == channel.written.load();
    if (!taken) return false;
    if (message.moved == message.header.bytes) {  // all of it has been read
      message.done = true;
      return true;
    }
    const uint64_t bytes = std::min<uint64_t>(kPieceBytes, message.header.bytes - message.moved);
    channel.header = message.header;
    std::memcpy(channel.bytes.data(), message.data + message.moved, bytes);
    message.moved += bytes;
    channel.written.fetch_add(1, std::memory_order_release);
    return true;
  }
  // Side by side; those of one peer and direction in their order. False where it was broken off.
  bool move(std::vector<Message> messages) const {
    std::erase_if(messages, [](const Message& message) { return message.header.bytes == 0; });
    Patience patience;
    while (!messages.empty()) {
      if (aborted) return false;
      const bool gone = broken(first_rank).has_value();
      bool moved = false;
      std::array<std::array<bool, 2>, kMostRanks> busy{};
      for (Message& message : messages) {
        bool& taken = busy[static_cast<size_t>(message.peer)][message.receive ? 1 : 0];
        if (taken || gone) continue;
        taken = true;
        moved = advance(message) || moved;
      }
      std::erase_if(messages, [](const Message& message) { return message.done; });
      if (moved) {
        patience.moved();
      } else {
        patience.wait();
      }
    }
    return !aborted;
  }
};

}  // namespace toroid::testing
