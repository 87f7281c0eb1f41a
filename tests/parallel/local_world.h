// A job whose ranks are threads of one process: for tests, also under the thread sanitizer.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "parallel/comm/side_channel/server.h"
#include "parallel/comm/side_channel/side_channel.h"
#include "parallel/comm/world.h"

namespace toroid {

// What the ranks share; made before they start, outlives them.
class LocalJob {
 public:
  struct Options {
    bool reads_memory = true;  // each other's
    bool views = true;         // in place; else what is read is copied
    bool relays = true;        // through memory that all have; with neither only messages
    int hosts = 1;             // ranks are dealt to as many hosts, in runs
    Seconds deadline{30};
    bool side_channel = false;  // over loopback
    // A link: what one rank sends another takes its time, one message after the other; 0: none.
    double link_bytes_per_s = 0;
    Seconds link_latency{0};
    int silent_host = -1;  // whose servers of it are not there
    // Called by the receiver's thread with each message as it has come, and with a copy of what a rank is
    // about to read of another's memory, in place or not: for tests that spoil it.
    std::function<void(std::span<std::byte>)> spoil_message, spoil_read;
  };
  LocalJob(int size, const Options& options);
  ~LocalJob();
  std::unique_ptr<World> world(int rank);
  int size() const { return size_; }
  Board& board(int host);
  const Relay& relay(int host) const;

 private:
  class Post;
  class Endpoint;
  class Member;
  struct HostTable {
    explicit HostTable(int ranks);
    std::unique_ptr<std::byte, void (*)(std::byte*)> memory, relay_memory;
    Board board;
    Relay relay;
    std::vector<std::unique_ptr<BoardServer>> servers;
  };
  void serve(int host);
  std::vector<int> ranks_of(int host) const;
  std::shared_ptr<const SideChannel> others(int host) const;

  int size_;
  Options options_;
  std::unique_ptr<Post> post_;
  std::vector<std::unique_ptr<HostTable>> hosts_;
  Token token_{};
  std::vector<ServingHost> serving_;
  std::unique_ptr<PeerMemory> memory_;
};

}  // namespace toroid
