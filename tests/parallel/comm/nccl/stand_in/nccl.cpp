#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "core/tensor/dtype.h"
#include "parallel/comm/combine.h"
#include "parallel/comm/within_host/shared_segment.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/parallel/comm/nccl/stand_in/nccl_stand_in.h"

namespace toroid::testing {
namespace {

constexpr int kMostRanks = 16, kMostSplits = 128;
constexpr size_t kPieceBytes = size_t{64} << 10;  // of a message, at a time

struct State {
  std::mutex mutex;  // of all that is not atomic
  std::map<std::string, std::pair<int, ncclResult_t>, std::less<>> failures;
  std::map<int, ncclResult_t> broken;  // ranks whose work moves nothing; ncclSuccess: and who say nothing
  std::map<std::string, SharedSegment> segments;  // by path, those that this process has made
  std::map<size_t, int> registered;
  std::minstd_rand random;
  std::atomic<int> longest_delay{0};
  std::atomic<bool> any_broken{false};
  std::atomic<int> alive{0}, aborted{0};
};
State& nccl_state() {
  static State one;
  return one;
}

ncclResult_t begin_call(std::string_view name) {
  State& all = nccl_state();
  const std::lock_guard lock(all.mutex);
  const auto found = all.failures.find(name);
  if (found == all.failures.end() || --found->second.first != 0) return ncclSuccess;
  return found->second.second;
}

std::optional<ncclResult_t> broken(int rank) {
  State& all = nccl_state();
  if (!all.any_broken) return std::nullopt;
  const std::lock_guard lock(all.mutex);
  const auto found = all.broken.find(rank);
  return found == all.broken.end() ? std::nullopt : std::optional(found->second);
}

void take_a_while() {
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
void copy_bytes(std::byte* to, const std::byte* from, size_t bytes) {
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
std::string make_meeting(int ranks) {
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

}  // namespace

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

namespace test_nccl = toroid::testing;

struct ncclComm {
  explicit ncclComm(std::shared_ptr<test_nccl::Core> made) : core(std::move(made)) {
    ++test_nccl::nccl_state().alive;
  }
  ~ncclComm() {
    core->aborted = true;
    finish();
    --test_nccl::nccl_state().alive;
  }
  ncclComm(const ncclComm&) = delete;
  ncclComm& operator=(const ncclComm&) = delete;
  void finish() {
    for (std::thread& thread : background) thread.join();
    background.clear();
  }

  std::shared_ptr<test_nccl::Core> core;
  std::deque<std::thread> background;
};

namespace toroid::testing {
namespace {

DType dtype_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return DType::u8;
    case ncclInt32:
      return DType::i32;
    case ncclInt64:
      return DType::i64;
    case ncclFloat32:
      return DType::f32;
    case ncclFloat64:
      return DType::f64;
    case ncclBfloat16:
      break;
  }
  return DType::bf16;
}
size_t bytes_of_type(ncclDataType_t type) {
  return static_cast<size_t>(bytes_of(dtype_of(type)));
}

enum Kind : int32_t { between_two, all_gather, reduce_scatter, all_reduce, broadcast };

// One call, in the order of its stream.
struct Work {
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::function<void(const Core&)> run;  // a collective's; else `messages`
  std::vector<Message> messages;
};

thread_local int group_depth = 0;
thread_local std::vector<Work> grouped;
thread_local ncclResult_t group_failure = ncclSuccess;

void run_messages(const Core& core, std::vector<Message> messages) {
  // To itself: the i-th send is the i-th receive.
  std::vector<Message> sends, receives, others;
  for (const Message& message : messages)
    (message.peer != core.rank ? others : message.receive ? receives : sends).push_back(message);
  for (size_t i = 0; i < sends.size() && i < receives.size(); ++i)
    copy_bytes(receives[i].data, sends[i].data, sends[i].header.bytes);
  core.move(std::move(others));
}

void put_on_stream(const std::shared_ptr<Core>& core, Work work) {
  ++core->pending;
  stand_in::enqueue(work.stream, [core, work = std::move(work)] {
    take_a_while();
    if (!core->aborted && work.run) work.run(*core);
    if (!core->aborted && !work.run) run_messages(*core, work.messages);
    --core->pending;
  });
}

ncclResult_t submit(Work work) {
  const std::shared_ptr<Core> core = work.comm->core;
  if (core->aborted || !core->ready || core->taking || core->finalizing) return ncclInvalidUsage;
  if (core->blocking || std::exchange(core->connected, true)) {
    put_on_stream(core, std::move(work));
    return ncclSuccess;
  }
  // The first call connects the ranks, and takes its time.
  core->taking = true;
  work.comm->background.emplace_back([core, work = std::move(work)] {
    take_a_while();
    put_on_stream(core, work);
    core->taking = false;
  });
  return ncclInProgress;
}

ncclResult_t call_of(std::string_view name, Work work) {
  const ncclResult_t failure = begin_call(name);
  if (failure != ncclSuccess) {
    if (group_depth > 0) group_failure = failure;
    return failure;
  }
  if (group_depth == 0) return submit(std::move(work));
  grouped.push_back(std::move(work));
  return ncclSuccess;
}

ncclResult_t message_call(std::string_view name, bool receive, void* data, size_t count, ncclDataType_t type,
                          int peer, ncclComm_t comm, cudaStream_t stream) {
  if (peer < 0 || peer >= comm->core->ranks) return ncclInvalidArgument;
  Message message;
  message.peer = peer;
  message.receive = receive;
  message.data = static_cast<std::byte*>(data);
  message.header.bytes = count * bytes_of_type(type);
  message.header.kind = between_two;
  message.header.type = type;
  return call_of(name, {comm, stream, nullptr, {message}});
}

// The same header for every message of one collective.
Header header_of(ncclComm_t comm, Kind kind, ncclDataType_t type, int how, int root, size_t bytes) {
  Header out;
  out.sequence = ++comm->core->sequence;
  out.bytes = bytes;
  out.kind = kind;
  out.type = type;
  out.how = how;
  out.root = root;
  return out;
}

// Each rank's piece, `own` among them, added up from the rank after `owner` on, all the way round.
void add_as_ring(const Core& core, int owner, ncclDataType_t type, int how, size_t count, size_t offset,
                 const std::vector<std::vector<std::byte>>& pieces, std::byte* out) {
  const auto at = [&](int hop) {
    return pieces[static_cast<size_t>((owner + 1 + hop) % core.ranks)].data() + offset;
  };
  copy_bytes(out, at(0), count * bytes_of_type(type));
  for (int hop = 1; hop < core.ranks; ++hop) {
    combine(dtype_of(type), how == ncclSum ? Combine::sum : Combine::max, out, out, at(hop),
            static_cast<int64_t>(count));
  }
}

}  // namespace

NcclScope::NcclScope() {
  nccl_state().aborted = 0;
}

NcclScope::~NcclScope() {
  State& all = nccl_state();
  const std::lock_guard lock(all.mutex);
  all.failures.clear();
  all.broken.clear();
  all.any_broken = false;
  all.registered.clear();
  all.segments.clear();
  all.longest_delay = 0;
}

void NcclScope::fail(std::string_view call, int count, ncclResult_t code) {
  const std::lock_guard lock(nccl_state().mutex);
  nccl_state().failures[std::string(call)] = {count, code};
}

void NcclScope::delay(int microseconds, unsigned seed) {
  const std::lock_guard lock(nccl_state().mutex);
  nccl_state().random.seed(seed);
  nccl_state().longest_delay = microseconds;
}

void NcclScope::unplug(int rank) {
  break_rank(rank, ncclSuccess);
}

void NcclScope::break_rank(int rank, ncclResult_t code) {
  const std::lock_guard lock(nccl_state().mutex);
  nccl_state().broken[rank] = code;
  nccl_state().any_broken = true;
}

int NcclScope::registered(size_t bytes) const {
  const std::lock_guard lock(nccl_state().mutex);
  const auto found = nccl_state().registered.find(bytes);
  return found == nccl_state().registered.end() ? 0 : found->second;
}

int NcclScope::alive() {
  return nccl_state().alive;
}

int NcclScope::aborted() {
  return nccl_state().aborted;
}

}  // namespace toroid::testing

using toroid::testing::begin_call;
using toroid::testing::Core;
using toroid::testing::Message;

extern "C" {

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclInProgress:
      return "in progress";
    default:
      return "internal error";
  }
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}
ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return begin_call(__func__);
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  std::memset(id, 0, sizeof *id);
  const std::string path = toroid::testing::make_meeting(toroid::testing::kMostRanks);
  path.copy(id->internal, sizeof id->internal - 1);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  if (ranks > toroid::testing::kMostRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  const bool blocking = config == nullptr || config->blocking != 0;
  auto core = std::make_shared<Core>(id.internal, ranks, rank, rank, blocking);
  *comm = new ncclComm(core);
  if (blocking) {
    core->join();
    return ncclSuccess;
  }
  (*comm)->background.emplace_back([core] { core->join(); });
  return ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* out, ncclConfig_t* config) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  const std::shared_ptr<Core> parent = comm->core;
  if (!parent->ready || parent->taking || parent->splits == toroid::testing::kMostSplits)
    return ncclInvalidUsage;
  const bool blocking = config == nullptr ? parent->blocking : config->blocking != 0;
  auto child = std::make_shared<Core>("", 0, 0, parent->first_rank, blocking);
  *out = color == NCCL_SPLIT_NOCOLOR ? nullptr : new ncclComm(child);
  const int number = parent->splits++;
  parent->taking = true;
  // The parent is free once all have said theirs; the part is ready when its ranks have met.
  const auto work = [=] {
    auto& said = parent->meeting().splits[static_cast<size_t>(number)];
    toroid::testing::take_a_while();
    auto& own = said[static_cast<size_t>(parent->rank)];
    own.color = color;
    own.key = key;
    own.said = 1;
    toroid::testing::Patience patience;
    std::vector<std::pair<int, int>> members;  // by key
    for (int rank = 0; rank < parent->ranks; ++rank) {
      const auto& other = said[static_cast<size_t>(rank)];
      while (other.said == 0 && !parent->aborted && !child->aborted) patience.wait();
      if (other.color == color) members.emplace_back(other.key, rank);
    }
    parent->taking = false;
    if (color == NCCL_SPLIT_NOCOLOR || parent->aborted || child->aborted) return;
    std::sort(members.begin(), members.end());
    child->ranks = static_cast<int>(members.size());
    const auto place = std::find(members.begin(), members.end(), std::pair(key, parent->rank));
    child->rank = static_cast<int>(place - members.begin());
    auto& host = said[static_cast<size_t>(members.front().second)];
    if (child->rank == 0) {
      toroid::testing::make_meeting(child->ranks).copy(host.path.data(), host.path.size() - 1);
      host.made = 1;
    }
    while (host.made == 0 && !child->aborted) patience.wait();
    if (child->aborted) return;
    child->path = host.path.data();
    child->join();
  };
  std::deque<std::thread>& threads = *out == nullptr ? comm->background : (*out)->background;
  threads.emplace_back(work);
  if (!blocking) return ncclInProgress;
  threads.back().join();
  threads.pop_back();
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const Core& core = *comm->core;
  const auto broken = toroid::testing::broken(core.first_rank);
  *state = ncclSuccess;
  if (!core.ready || core.taking) *state = ncclInProgress;
  if (core.finalizing && (core.pending > 0 || core.meeting().finalized < core.ranks)) *state = ncclInProgress;
  if (broken && *broken != ncclSuccess) *state = *broken;
  return begin_call(__func__);
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++toroid::testing::nccl_state().aborted;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  Core& core = *comm->core;
  if (core.finalizing || !core.ready || core.taking) return ncclInvalidUsage;
  core.finalizing = true;
  ++core.meeting().finalized;
  return core.blocking ? ncclSuccess : ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommRegister(ncclComm_t comm, void* buffer, size_t bytes, void** handle) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  if (!comm->core->ready || buffer == nullptr) return ncclInvalidUsage;
  auto& all = toroid::testing::nccl_state();
  const std::lock_guard lock(all.mutex);
  ++all.registered[bytes];
  *handle = buffer;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  if (toroid::testing::group_depth++ == 0) toroid::testing::group_failure = ncclSuccess;
  return ncclSuccess;
}
// Messages on one communicator and stream are one piece of work.
ncclResult_t ncclGroupEnd() {
  using namespace toroid::testing;
  if (--group_depth > 0) return ncclSuccess;
  std::vector<Work> works = std::exchange(grouped, {});
  if (group_failure != ncclSuccess) return group_failure;
  std::vector<Work> fused;
  for (Work& work : works) {
    const auto same = std::find_if(fused.begin(), fused.end(), [&](const Work& other) {
      return other.comm == work.comm && other.stream == work.stream && !other.run && !work.run;
    });
    if (same == fused.end()) {
      fused.push_back(std::move(work));
    } else {
      same->messages.insert(same->messages.end(), work.messages.begin(), work.messages.end());
    }
  }
  ncclResult_t code = ncclSuccess;
  for (Work& work : fused) {
    const ncclResult_t one = submit(std::move(work));
    if (code == ncclSuccess || code == ncclInProgress) code = one == ncclSuccess ? code : one;
  }
  return code;
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return toroid::testing::message_call(__func__, false, const_cast<void*>(from), count, type, peer, comm,
                                       stream);
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return toroid::testing::message_call(__func__, true, to, count, type, peer, comm, stream);
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  using namespace toroid::testing;
  const size_t share = count * bytes_of_type(type);
  const Header header = header_of(comm, all_gather, type, 0, 0, share);
  auto* const from = static_cast<std::byte*>(const_cast<void*>(in));
  auto* const to = static_cast<std::byte*>(out);
  const auto run = [=](const Core& core) {
    std::byte* const own = to + static_cast<size_t>(core.rank) * share;
    if (own != from) copy_bytes(own, from, share);
    std::vector<Message> messages;
    for (int peer = 0; peer < core.ranks; ++peer) {
      if (peer == core.rank) continue;
      messages.push_back({peer, false, own, header});
      messages.push_back({peer, true, to + static_cast<size_t>(peer) * share, header});
    }
    core.move(std::move(messages));
  };
  return call_of(__func__, {comm, stream, run, {}});
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  using namespace toroid::testing;
  const size_t bytes = count * bytes_of_type(type);
  const Header header = header_of(comm, broadcast, type, 0, root, bytes);
  auto* const from = static_cast<std::byte*>(const_cast<void*>(in));
  auto* const to = static_cast<std::byte*>(out);
  const auto run = [=](const Core& core) {
    std::vector<Message> messages;
    if (core.rank == root) {
      if (from != to) copy_bytes(to, from, bytes);
      for (int peer = 0; peer < core.ranks; ++peer) {
        if (peer != core.rank) messages.push_back({peer, false, to, header});
      }
    } else {
      messages.push_back({root, true, to, header});
    }
    core.move(std::move(messages));
  };
  return call_of(__func__, {comm, stream, run, {}});
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how,
                               ncclComm_t comm, cudaStream_t stream) {
  using namespace toroid::testing;
  const size_t share = count * bytes_of_type(type);
  const Header header = header_of(comm, reduce_scatter, type, how, 0, share);
  auto* const from = static_cast<std::byte*>(const_cast<void*>(in));
  auto* const to = static_cast<std::byte*>(out);
  const auto run = [=](const Core& core) {
    std::vector<std::vector<std::byte>> pieces(static_cast<size_t>(core.ranks),
                                               std::vector<std::byte>(share));
    std::vector<Message> messages;
    for (int peer = 0; peer < core.ranks; ++peer) {
      std::byte* const piece = from + static_cast<size_t>(peer) * share;
      if (peer == core.rank) {
        copy_bytes(pieces[static_cast<size_t>(peer)].data(), piece, share);
        continue;
      }
      messages.push_back({peer, false, piece, header});
      messages.push_back({peer, true, pieces[static_cast<size_t>(peer)].data(), header});
    }
    if (core.move(std::move(messages))) add_as_ring(core, core.rank, type, how, count, 0, pieces, to);
  };
  return call_of(__func__, {comm, stream, run, {}});
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how,
                           ncclComm_t comm, cudaStream_t stream) {
  using namespace toroid::testing;
  const size_t bytes = count * bytes_of_type(type);
  const Header header = header_of(comm, all_reduce, type, how, 0, bytes);
  auto* const from = static_cast<std::byte*>(const_cast<void*>(in));
  auto* const to = static_cast<std::byte*>(out);
  const auto run = [=](const Core& core) {
    std::vector<std::vector<std::byte>> arrays(static_cast<size_t>(core.ranks),
                                               std::vector<std::byte>(bytes));
    copy_bytes(arrays[static_cast<size_t>(core.rank)].data(), from, bytes);
    std::vector<Message> messages;
    for (int peer = 0; peer < core.ranks; ++peer) {
      if (peer == core.rank) continue;
      messages.push_back({peer, false, from, header});
      messages.push_back({peer, true, arrays[static_cast<size_t>(peer)].data(), header});
    }
    if (!core.move(std::move(messages))) return;
    const size_t ranks = static_cast<size_t>(core.ranks);
    for (size_t owner = 0; owner < ranks; ++owner) {
      const size_t first = count * owner / ranks, last = count * (owner + 1) / ranks;
      add_as_ring(core, static_cast<int>(owner), type, how, last - first, first * bytes_of_type(type), arrays,
                  to + first * bytes_of_type(type));
    }
  };
  return call_of(__func__, {comm, stream, run, {}});
}
}
