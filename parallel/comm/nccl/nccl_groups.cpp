#include "parallel/comm/nccl/nccl_groups.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cuda/gpus.h"
#include "parallel/comm/nccl/nccl_communicator.h"

namespace toroid {
namespace {

// NCCL_LAUNCH_ORDER_IMPLICIT is of 2.26; an older one would not say that it does not keep the order.
constexpr int kOldestVersion = NCCL_VERSION(2, 26, 2);

std::string version_text(int code) {
  return std::to_string(code / 10000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

// UserError where NCCL is not found, which no other call says: it is asked for first.
int version_code() {
  int code = 0;
  const ncclResult_t result = ncclGetVersion(&code);
  if (result != ncclSuccess && code == 0) {
    throw UserError(
        "several GPUs talk to each other by NCCL, and its libnccl.so.2 is not found; install NCCL, or set "
        "NCCL_HOME to its folder (a run on one GPU does without)");
  }
  check_nccl(result, "ncclGetVersion");
  return code;
}

}  // namespace

// Sums are to have the same bits on every run: those inside the switch (NVLS) have not, and the others' order
// follows the algorithm. A process's communicators from several streams are put in the order in which it
// issues. Read by NCCL when the first communicator is made.
void fix_nccl_algorithms() {
  ::setenv("NCCL_NVLS_ENABLE", "0", 1);
  ::setenv("NCCL_ALGO", "Ring", 1);
  ::setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 1);
}

std::string nccl_version() {
  return version_text(version_code());
}

NcclGroups::NcclGroups(World& world, const Options& options) : world_(world), options_(options) {
  if (world_.size() == 1) return;
  job_->peers_leave = std::min(job_->peers_leave, options_.deadline);
  const int version = version_code();
  if (version < kOldestVersion) {
    throw UserError("this program runs with NCCL " + version_text(version) + ", and takes " +
                    version_text(kOldestVersion) + " or newer; install a newer one");
  }
  fix_nccl_algorithms();
  meet_ranks();
  watch_queues_ = std::make_shared<NcclWatchQueues>(world_.transfers());
  world_.transfers()->call([gpu = options_.gpu] { (void)cudaSetDevice(gpu); });
  ncclUniqueId id{};
  if (world_.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  const std::string bytes =
      world_.exchange().from_first(std::string(id.internal, sizeof id.internal), "NCCL's identifier");
  require(bytes.size() == sizeof id.internal, "the identifier came whole");
  std::memcpy(id.internal, bytes.data(), bytes.size());
  ncclConfig_t config = this->config();
  ncclComm_t comm = nullptr;
  check_nccl(ncclCommInitRankConfig(&comm, world_.size(), id, world_.rank(), &config),
             "ncclCommInitRankConfig");
  all_ = ready(comm, "all ranks");
}

NcclGroups::~NcclGroups() = default;

ncclConfig_t NcclGroups::config() const {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // a peer that does not come ends in a deadline
  if (options_.most_multiprocessors > 0) {
    config.minCTAs = 1;
    config.maxCTAs = options_.most_multiprocessors;
  }
  return config;
}

// What NCCL would find out by hanging, or in words of its own.
void NcclGroups::meet_ranks() const {
  const std::string bus = cuda::bus_of(options_.gpu);
  const std::string gpu =
      bus.empty() ? "" : std::to_string(world_.host_ranks().front()) + " " + bus;  // on which host
  const auto versions = world_.exchange().texts(nccl_version(), "versions of NCCL");
  const auto gpus = world_.exchange().texts(gpu, "GPUs");
  std::map<std::string, int> taken;
  for (size_t rank = 0; rank < versions.size(); ++rank) {
    if (versions[rank] != versions[0]) {
      throw UserError("rank 0 runs with NCCL " + printable(versions[0]) + " and rank " +
                      std::to_string(rank) + " with " + printable(versions[rank]) +
                      "; install one version on all hosts");
    }
    const auto [other, fresh] = taken.emplace(gpus[rank], static_cast<int>(rank));
    if (fresh || gpus[rank].empty()) continue;
    throw UserError("ranks " + std::to_string(other->second) + " and " + std::to_string(rank) +
                    " use one GPU (" + printable(gpus[rank].substr(gpus[rank].find(' ') + 1)) +
                    "), and NCCL wants one a rank; start no more ranks on a host than it has GPUs");
  }
}

void NcclGroups::could_not_join(const std::string& what, ncclResult_t state, const std::string& said) const {
  const std::string text = "NCCL could not join " + what + " (this is rank " + std::to_string(world_.rank()) +
                           " of " + std::to_string(world_.size()) + ")";
  if (state == ncclInProgress) {
    throw PeerError(
        text + " within " + std::to_string(options_.deadline.count()) +
        " s, though all ranks have come to it; one of them may say why, and NCCL_DEBUG=INFO more");
  }
  if (state == ncclRemoteError) throw PeerError(text + ": " + said);
  throw SystemError(text + ": " + said);
}

// Waits until the ranks have met in it.
std::shared_ptr<NcclHandle> NcclGroups::ready(ncclComm_t comm, const std::string& what) const {
  require(comm != nullptr, "NCCL has made a communicator");
  auto handle = std::make_shared<NcclHandle>(comm, job_);
  const Stopwatch watch;
  ncclResult_t state = handle->state();
  while (state == ncclInProgress && watch.elapsed() < options_.deadline) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    state = handle->state();
  }
  if (state == ncclSuccess) return handle;
  const std::string said = handle->last_error();
  handle->break_off();
  could_not_join(what, state, said);
}

std::shared_ptr<NcclHandle> NcclGroups::split(int color, int key, const std::string& axis) {
  // A rank that does not come is named here, where a deadline is kept.
  const double here = 1;
  (void)world_.exchange().numbers({&here, 1}, "the start of a group of axis " + axis);
  const std::string what = "the ranks of axis " + axis;
  ncclConfig_t config = this->config();
  ncclComm_t part = nullptr;
  const Stopwatch watch;
  const auto waiting = [&] {
    if (watch.elapsed() > options_.deadline) could_not_join(what, ncclInProgress, "");
  };
  try {
    const NcclHandle::Issued issued = all_->issue(
        "ncclCommSplit", [&](ncclComm_t all) { return ncclCommSplit(all, color, key, &part, &config); },
        waiting);
    if (issued == NcclHandle::Issued::failed) could_not_join(what, all_->state(), all_->last_error());
    if (issued == NcclHandle::Issued::broken_off)
      throw PeerError("a group of axis " + axis + " was not made, since the job has failed");
  } catch (...) {
    if (part != nullptr) NcclHandle(part, job_).break_off();
    all_->break_off();
    throw;
  }
  if (color == NCCL_SPLIT_NOCOLOR) return nullptr;
  auto handle = ready(part, what);
  make_memory_known(*handle);
  return handle;
}

// Where NCCL does not take it, collectives go by its own buffers.
void NcclGroups::make_memory_known(NcclHandle& handle) const {
  if (options_.memory.empty()) return;
  (void)handle.issue(
      "ncclCommRegister",
      [&](ncclComm_t comm) {
        void* registered = nullptr;  // until the communicator ends
        const ncclResult_t code =
            ncclCommRegister(comm, options_.memory.data(), options_.memory.size(), &registered);
        return code == ncclInProgress ? code : ncclSuccess;
      },
      [] {});
}

bool NcclGroups::serves(const Device& device) const {
  return device.name() == "cuda";
}

std::unique_ptr<Communicator> NcclGroups::make(Device& device, Queue queue, std::string axis,
                                               std::shared_ptr<const GroupState> state,
                                               schedule::GroupShape shape, const GroupOptions& options) {
  const GroupMembers& members = state->members;
  const int color = *std::min_element(members.ranks.begin(), members.ranks.end());
  auto library =
      std::make_shared<NcclCollectives>(split(color, members.place, axis), watch_queues_, queue, state);
  return std::make_unique<NcclCommunicator>(device, queue, std::move(axis), std::move(state), shape,
                                            std::move(library), options);
}

void NcclGroups::stand_by(const std::string& axis) {
  if (all_ != nullptr) (void)split(NCCL_SPLIT_NOCOLOR, 0, axis);
}

}  // namespace toroid
