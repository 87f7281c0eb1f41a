#include "tests/parallel/local_world.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

namespace toroid {

// Messages on their way, copied when they are sent.
class LocalJob::Post {
 public:
  using Channel = std::tuple<int, int, int>;  // sender, receiver, context
  Post(double bytes_per_s, Seconds latency, std::function<void(std::span<std::byte>)> spoil)
      : bytes_per_s_(bytes_per_s), latency_(latency), spoil_(std::move(spoil)) {}

  void put(const Channel& channel, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    Message message{{bytes.begin(), bytes.end()}, {}};
    if (bytes_per_s_ > 0) {
      Clock::time_point& free = free_[{std::get<0>(channel), std::get<1>(channel)}];
      free = std::max(free, Clock::now()) + whole(Seconds(static_cast<double>(bytes.size()) / bytes_per_s_));
      message.there = free + whole(latency_);
    }
    messages_[channel].push_back(std::move(message));
  }
  std::optional<std::vector<std::byte>> take(const Channel& channel) {
    const std::lock_guard lock(mutex_);
    auto& waiting = messages_[channel];
    if (waiting.empty() || waiting.front().there > Clock::now()) return std::nullopt;
    std::vector<std::byte> bytes = std::move(waiting.front().bytes);
    waiting.pop_front();
    if (spoil_) spoil_(bytes);
    return bytes;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Message {
    std::vector<std::byte> bytes;
    Clock::time_point there;
  };
  static Clock::duration whole(Seconds time) { return std::chrono::duration_cast<Clock::duration>(time); }

  double bytes_per_s_;
  Seconds latency_;
  std::function<void(std::span<std::byte>)> spoil_;
  std::mutex mutex_;
  std::map<Channel, std::deque<Message>> messages_;
  std::map<std::pair<int, int>, Clock::time_point> free_;  // a link, sender to receiver
};

namespace {

// Out of the thread sanitizer's sight: a copy of a peer's whole array takes in rows that the peer writes
// meanwhile, and that nobody reads from the copy.
[[gnu::no_sanitize("thread")]] void copy_unseen(const volatile std::byte* from, std::span<std::byte> to) {
  for (std::byte& byte : to) byte = *from++;
}

// What is read is copied, spoilt, and read there; copies stay as long as this.
class SpoiltMemory final : public PeerMemory {
 public:
  SpoiltMemory(bool views, std::function<void(std::span<std::byte>)> spoil)
      : memory_(views), spoil_(std::move(spoil)) {}
  const std::byte* view(int slot, uint64_t address, int64_t bytes) const override {
    const std::byte* const there = memory_.view(slot, address, bytes);
    if (there == nullptr) return nullptr;
    const std::lock_guard lock(mutex_);
    std::vector<std::byte>& copy = copies_.emplace_back(static_cast<size_t>(bytes) + 64);
    std::byte* const to = copy.data() + (64 - reinterpret_cast<uintptr_t>(copy.data()) % 64) % 64;
    copy_unseen(there, {to, static_cast<size_t>(bytes)});
    spoil_({to, static_cast<size_t>(bytes)});
    return to;
  }
  void read(int slot, uint64_t address, std::span<std::byte> to) const override {
    memory_.read(slot, address, to);
    const std::lock_guard lock(mutex_);
    spoil_(to);
  }

 private:
  ThreadMemory memory_;
  std::function<void(std::span<std::byte>)> spoil_;
  mutable std::mutex mutex_;
  mutable std::deque<std::vector<std::byte>> copies_;
};

}  // namespace

// Called by the rank's transfer thread, and by its device where that has threads of its own.
class LocalJob::Endpoint final : public Transport {
 public:
  Endpoint(Post& post, int rank, int size) : post_(post), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Request send(int peer, int context, std::span<const std::byte> bytes) override {
    const std::lock_guard lock(mutex_);
    post_.put({rank_, peer, context}, bytes);
    const int64_t id = next_++;
    through_[id] = static_cast<int64_t>(bytes.size());
    return {id};
  }
  Request receive(int peer, int context, std::span<std::byte> bytes) override {
    const std::lock_guard lock(mutex_);
    const int64_t id = next_++;
    const Post::Channel channel{peer, rank_, context};
    posted_[channel].push_back({id, bytes});
    channels_[id] = channel;
    return {id};
  }
  std::optional<int64_t> test(Request request) override {
    const std::lock_guard lock(mutex_);
    const auto channel = channels_.find(request.id);
    if (channel != channels_.end()) deliver(channel->second);
    const auto found = through_.find(request.id);
    if (found == through_.end()) return std::nullopt;
    const int64_t bytes = found->second;
    through_.erase(found);
    channels_.erase(request.id);
    return bytes;
  }

 private:
  struct Posted {
    int64_t id;
    std::span<std::byte> bytes;
  };
  void deliver(const Post::Channel& channel) {
    auto& waiting = posted_[channel];
    while (!waiting.empty()) {
      const auto message = post_.take(channel);
      if (!message) return;
      const Posted& to = waiting.front();
      const size_t count = std::min(message->size(), to.bytes.size());
      if (count > 0) std::memcpy(to.bytes.data(), message->data(), count);
      through_[to.id] = static_cast<int64_t>(message->size());
      waiting.pop_front();
    }
  }

  Post& post_;
  int rank_, size_;
  std::mutex mutex_;
  int64_t next_ = 0;
  std::map<int64_t, int64_t> through_;
  std::map<int64_t, Post::Channel> channels_;
  std::map<Post::Channel, std::deque<Posted>> posted_;
};

class LocalJob::Member final : public World {
 public:
  Member(LocalJob& job, int rank, std::vector<int> host_ranks, HostTable& host)
      : World(rank, job.size(), std::move(host_ranks)),
        job_(job),
        host_(host),
        endpoint_(*job.post_, rank, job.size()) {
    const int slot = slot_of(rank);
    host_.board.enter(slot, ::getpid());
    std::vector<int> hosts(static_cast<size_t>(job.size()));
    for (size_t i = 0; i < hosts.size(); ++i) hosts[i] = static_cast<int>(i / this->host_ranks().size());
    place_hosts(std::move(hosts));
    watch_over(std::make_shared<Watch>(&host_.board, rank, slot, job.options_.deadline,
                                       job.others(rank / static_cast<int>(this->host_ranks().size()))));
  }
  ~Member() override { end_transfers(); }
  std::shared_ptr<cpu::TransferThread> transfers() override { return transfers_; }

 protected:
  ScheduledCommunicator::Transports transports() override {
    ScheduledCommunicator::Transports out;
    out.transport = &endpoint_;
    out.board = &host_.board;
    if (job_.options_.reads_memory) out.memory = job_.memory_.get();
    if (job_.options_.relays) out.relay = &host_.relay;
    out.every_host_reads = job_.options_.reads_memory;
    return out;
  }

 private:
  LocalJob& job_;
  HostTable& host_;
  Endpoint endpoint_;
  std::shared_ptr<cpu::TransferThread> transfers_ = std::make_shared<cpu::TransferThread>();
};

LocalJob::HostTable::HostTable(int ranks)
    : memory(nullptr, [](std::byte* block) { std::free(block); }),
      relay_memory(nullptr, [](std::byte* block) { std::free(block); }),
      board(nullptr, 0),
      relay(nullptr, ranks) {
  const auto allocate = [](int64_t bytes) {
    return static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
  };
  memory.reset(allocate(Board::bytes_for(ranks)));
  std::memset(memory.get(), 0, static_cast<size_t>(Board::bytes_for(ranks)));
  board = Board(memory.get(), ranks);
  relay_memory.reset(allocate(Relay::bytes_for(ranks)));  // taken from the system as it is used
  relay = Relay(relay_memory.get(), ranks);
}

LocalJob::LocalJob(int size, const Options& options)
    : size_(size),
      options_(options),
      post_(std::make_unique<Post>(options.link_bytes_per_s, options.link_latency, options.spoil_message)) {
  if (options.spoil_read) {
    memory_ = std::make_unique<SpoiltMemory>(options.views, options.spoil_read);
  } else {
    memory_ = std::make_unique<ThreadMemory>(options.views);
  }
  require(size >= options_.hosts && size % options_.hosts == 0, "every host has as many ranks");
  for (int host = 0; host < options_.hosts; ++host) {
    hosts_.push_back(std::make_unique<HostTable>(size / options_.hosts));
  }
  if (!options_.side_channel) return;
  token_ = random_bytes();
  for (int host = 0; host < options_.hosts; ++host) serve(host);
}

void LocalJob::serve(int host) {
  constexpr uint32_t kLoopback = 0x7f000001;
  ServingHost serving{static_cast<uint32_t>(host), "host" + std::to_string(host), ranks_of(host), {}};
  HostTable& table = *hosts_[static_cast<size_t>(host)];
  for (int server = 0; server < 2; ++server) {
    table.servers.push_back(std::make_unique<BoardServer>(
        kLoopback, serving.number, token_, [board = table.board, ranks = serving.ranks](int context) {
          return encode(take_snapshot(board, ranks, context));
        }));
    serving.servers.push_back(table.servers.back()->endpoint());
  }
  if (host == options_.silent_host) table.servers.clear();
  serving_.push_back(std::move(serving));
}

std::shared_ptr<const SideChannel> LocalJob::others(int host) const {
  if (serving_.empty()) return nullptr;
  std::vector<ServingHost> others;
  for (const ServingHost& serving : serving_) {
    if (serving.number != static_cast<uint32_t>(host)) others.push_back(serving);
  }
  return std::make_shared<SideChannel>(token_, std::move(others));
}

std::vector<int> LocalJob::ranks_of(int host) const {
  std::vector<int> ranks(static_cast<size_t>(size_ / options_.hosts));
  std::iota(ranks.begin(), ranks.end(), host * static_cast<int>(ranks.size()));
  return ranks;
}

LocalJob::~LocalJob() = default;

Board& LocalJob::board(int host) {
  return hosts_[static_cast<size_t>(host)]->board;
}

const Relay& LocalJob::relay(int host) const {
  return hosts_[static_cast<size_t>(host)]->relay;
}

std::unique_ptr<World> LocalJob::world(int rank) {
  const int host = rank / (size_ / options_.hosts);
  return std::make_unique<Member>(*this, rank, ranks_of(host), *hosts_[static_cast<size_t>(host)]);
}

}  // namespace toroid
