#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/tensor/dtype.h"
#include "parallel/comm/combine.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/parallel/comm/nccl/stand_in/meeting.h"
#include "tests/parallel/comm/nccl/stand_in/nccl_stand_in.h"

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
  all.ctas.clear();
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

std::set<int> NcclScope::most_multiprocessors() const {
  const std::lock_guard lock(nccl_state().mutex);
  return nccl_state().ctas;
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
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  std::memset(id, 0, sizeof *id);
  const std::string path = toroid::testing::make_meeting(toroid::testing::kMostRanks);
  path.copy(id->internal, sizeof id->internal - 1);
  return ncclSuccess;
}

// What NCCL reads when the first communicator is made, and by which sums have the same bits on every run.
static bool sums_are_fixed() {
  const auto is = [](const char* name, std::string_view wanted) {
    const char* const value = std::getenv(name);
    return value != nullptr && value == wanted;
  };
  return is("NCCL_NVLS_ENABLE", "0") && is("NCCL_ALGO", "Ring") && is("NCCL_LAUNCH_ORDER_IMPLICIT", "1");
}
static void note_ctas(const ncclConfig_t* config) {
  auto& all = toroid::testing::nccl_state();
  const std::lock_guard lock(all.mutex);
  all.ctas.insert(config == nullptr ? NCCL_CONFIG_UNDEF_INT : config->maxCTAs);
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (const ncclResult_t code = begin_call(__func__); code != ncclSuccess) return code;
  if (ranks > toroid::testing::kMostRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  if (!sums_are_fixed()) return ncclInvalidUsage;
  note_ctas(config);
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
  note_ctas(config);
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
