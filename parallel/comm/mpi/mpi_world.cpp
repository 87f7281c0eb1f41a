#include "parallel/comm/mpi/mpi_world.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "core/base/text.h"
#include "parallel/comm/board/board.h"
#include "parallel/comm/mpi/mpi_library.h"
#include "parallel/comm/mpi/mpi_side_channel.h"
#include "parallel/comm/mpi/mpi_transport.h"
#include "parallel/comm/preflight.h"
#include "parallel/comm/within_host/arena.h"
#include "parallel/comm/within_host/peer_memory.h"
#include "parallel/comm/within_host/relay.h"
#include "parallel/comm/within_host/shared_segment.h"

namespace toroid::mpi {
namespace {

// Everything that is found out before the first group is made; on the transfer thread alone.
struct Job {
  int rank = 0, size = 1;
  std::vector<int> host_ranks;
  std::vector<int> hosts;  // by rank: the first rank of its host
  std::unique_ptr<MpiTransport> transport;
  std::optional<SharedSegment> segment;
  std::optional<Board> board;
  std::unique_ptr<ProcessMemory> memory;  // nullptr where ranks cannot read each other's
  bool every_host_reads = false;
  std::shared_ptr<Arena> arena;  // nullptr where that would be in no better way
  std::optional<SharedSegment> relay_memory;
  std::optional<Relay> relay;   // none where ranks cannot share memory without a name
  bool crowded = false;         // the host has more ranks than cores
  MpiSideChannel side_channel;  // ends before the board that it tells of
};

class Host {  // the processes of this host
 public:
  Host() {
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm_), "hosts");
    check(MPI_Comm_rank(comm_, &slot_), "rank in host");
    check(MPI_Comm_size(comm_, &size_), "size of host");
  }
  ~Host() { MPI_Comm_free(&comm_); }
  Host(const Host&) = delete;  // owns a communicator
  Host& operator=(const Host&) = delete;
  MPI_Comm comm() const { return comm_; }
  int slot() const { return slot_; }
  int size() const { return size_; }
  bool all(bool mine) const {
    int value = mine ? 1 : 0;
    check(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT, MPI_MIN, comm_), "agreement in the host");
    return value != 0;
  }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  int slot_ = 0, size_ = 1;
};

// The table that the ranks of this host share. Its first rank makes it and takes its name away once all have
// it, or leaves it to the launcher.
void share_board(Job& job, const Host& host) {
  std::array<char, 64> name{};
  const int64_t bytes = Board::bytes_for(host.size());
  std::string failure;
  if (host.slot() == 0) {
    std::random_device random;
    const std::string text = "/toroid-" + std::to_string(::getpid()) + "-" +
                             hex((uint64_t{random()} << 32) | random()).substr(0, 16);
    text.copy(name.data(), name.size() - 1);
    try {
      job.segment.emplace(SharedSegment::create(name.data(), bytes));
    } catch (const SystemError& error) {
      failure = error.what();
    }
  }
  if (!host.all(failure.empty())) {
    throw SystemError(failure.empty() ? "another rank of this host could not make shared memory" : failure);
  }
  check(MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, host.comm()),
        "name of the segment");
  if (host.slot() != 0) {
    try {
      job.segment.emplace(SharedSegment::open(name.data(), bytes));
    } catch (const SystemError& error) {
      failure = error.what();
    }
  }
  const bool all = host.all(failure.empty());
  // A launcher that has asked for it reads there what the ranks did last (launch/toroid/flight_recorder.h).
  const char* const kept = std::getenv(kJobDirectory);
  if (host.slot() == 0 && !(all && kept != nullptr && job.segment->leave_in(kept, kBoardFile)))
    job.segment->unlink();
  if (!all) throw SystemError(failure.empty() ? "another rank of this host has no shared memory" : failure);
  job.board.emplace(job.segment->data(), host.size());
  job.board->enter(host.slot(), ::getpid());
}

// Whether every rank of this host can read its neighbour's memory.
void try_memory(Job& job, const Host& host) {
  allow_reads_by_peers();
  const uint64_t word = 0x70726f6265000000u + static_cast<uint64_t>(host.slot());
  job.board->probe(host.slot()).store(reinterpret_cast<uint64_t>(&word));
  check(MPI_Barrier(host.comm()), "barrier of the host");
  const int next = (host.slot() + 1) % host.size();
  auto memory = std::make_unique<ProcessMemory>(*job.board);
  bool reads = false;
  try {
    uint64_t seen = 0;
    memory->read(next, job.board->probe(next).load(), {reinterpret_cast<std::byte*>(&seen), sizeof seen});
    reads = seen == 0x70726f6265000000u + static_cast<uint64_t>(next);
  } catch (const Error&) {
    // messages serve instead
  }
  if (host.all(reads)) job.memory = std::move(memory);
}

// The relay is memory of the first rank, which waits until the others have opened it.
void share_relay(Job& job, const Host& host) {
  std::array<char, 64> path{};
  const int64_t bytes = Relay::bytes_for(host.size());
  const auto try_to = [&](const auto& map) {
    try {
      job.relay_memory.emplace(map());
    } catch (const SystemError&) {
      // messages or the peers' own memory serve instead
    }
  };
  if (host.slot() == 0) {
    try_to([&] { return SharedSegment::anonymous(bytes); });
    if (job.relay_memory) job.relay_memory->path().copy(path.data(), path.size() - 1);
  }
  check(MPI_Bcast(path.data(), static_cast<int>(path.size()), MPI_CHAR, 0, host.comm()), "path of the relay");
  if (host.slot() != 0 && path[0] != '\0') try_to([&] { return SharedSegment::attach(path.data(), bytes); });
  if (host.all(job.relay_memory.has_value())) job.relay.emplace(job.relay_memory->data(), host.size());
}

// What the ranks of a host say of their arenas; without one, nothing.
struct ArenaAddress {
  std::array<char, 64> path{};
  uint64_t begin = 0;
  int64_t bytes = 0;
};

// Each rank maps all of its host's: with many of them the tables of pages alone would take the memory.
void share_arenas(Job& job, const Host& host) {
  constexpr int kMostRanks = 64;
  if (job.memory == nullptr || host.size() == 1 || host.size() > kMostRanks) return;
  ArenaAddress mine;
  try {
    constexpr int64_t kMostBytes = (int64_t{32} << 40) / kMostRanks;  // of an address space
    const int64_t memory = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
    job.arena = std::make_shared<Arena>(std::clamp<int64_t>(memory, int64_t{1} << 30, kMostBytes));
    job.arena->path().copy(mine.path.data(), mine.path.size() - 1);
    mine.begin = reinterpret_cast<uint64_t>(job.arena->begin());
    mine.bytes = job.arena->bytes();
  } catch (const SystemError&) {
    // arrays are read by the kernel instead
  }
  std::vector<ArenaAddress> addresses(static_cast<size_t>(host.size()));
  check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, addresses.data(), sizeof mine, MPI_BYTE, host.comm()),
        "arenas");
  std::vector<std::optional<PeerArena>> arenas(addresses.size());
  for (size_t slot = 0; slot < addresses.size(); ++slot) {
    if (addresses[slot].bytes == 0 || static_cast<int>(slot) == host.slot()) continue;
    try {
      arenas[slot].emplace(addresses[slot].path.data(), addresses[slot].begin, addresses[slot].bytes);
    } catch (const SystemError&) {
      // likewise
    }
  }
  job.memory->attach(std::move(arenas));
  check(MPI_Barrier(host.comm()), "barrier of the host");  // a peer that ended would take its path away
}

// The sleep of a rank between two looks where `ranks` share this host's cores.
std::chrono::microseconds crowded_sleep(size_t ranks) {
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  return std::chrono::microseconds(100 * (ranks / cores));
}

// Lets the kernel end this thread's sleeps late, and many ranks' together. A rank that is ready looks for the
// others every 100 us inside MPI_Init: hundreds of them leave little of the cores to those yet to start.
class LateSleeps {
 public:
  LateSleeps() {
    const char* const ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    const auto late = crowded_sleep(ranks == nullptr ? 1 : std::strtoul(ranks, nullptr, 10));
    if (late.count() > 0) set(std::chrono::nanoseconds(late).count());
  }
  ~LateSleeps() { set(0); }                // 0: the thread's default again
  LateSleeps(const LateSleeps&) = delete;  // the setting is the thread's
  LateSleeps& operator=(const LateSleeps&) = delete;

 private:
  static void set(int64_t nanoseconds) {
    (void)::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(nanoseconds), 0, 0, 0);
  }
};

int number_of(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::max(0, std::atoi(text));
}

// Before MPI finds it out. All ranks look, since one that went on would have MPI report of it; the first of
// the host for all of them, the others for what is left for one, as their peers may have taken theirs.
void look_before_start() {
  check_launcher_is_there();
  const int ranks = number_of("OMPI_COMM_WORLD_LOCAL_SIZE", 1),
            all = number_of("OMPI_COMM_WORLD_SIZE", ranks);
  const bool first = number_of("OMPI_COMM_WORLD_LOCAL_RANK", 0) == 0;
  HostNeeds needs;
  needs.launcher = false;
  needs.ranks = first ? ranks : std::min(ranks, 2);
  needs.other_ranks = std::max(0, all - ranks);
  require_host(needs);
  needs.ranks = ranks;
  allow_open_files(open_files_of(needs));
}

void start(Job& job) {
  look_before_start();
  int level = 0;
  {
    const LateSleeps late;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level), "start");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  job.transport = std::make_unique<MpiTransport>();
  job.rank = job.transport->rank();
  job.size = job.transport->size();
  const Host host;
  job.host_ranks.resize(static_cast<size_t>(host.size()));
  check(MPI_Allgather(&job.rank, 1, MPI_INT, job.host_ranks.data(), 1, MPI_INT, host.comm()),
        "ranks of the host");
  job.hosts.resize(static_cast<size_t>(job.size));
  check(MPI_Allgather(job.host_ranks.data(), 1, MPI_INT, job.hosts.data(), 1, MPI_INT, MPI_COMM_WORLD),
        "hosts of the ranks");
  share_board(job, host);
  job.side_channel = open_side_channel(*job.board, job.rank, job.host_ranks, job.hosts);
  try_memory(job, host);
  int reads = job.memory == nullptr ? 0 : 1;
  check(MPI_Allreduce(MPI_IN_PLACE, &reads, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "agreement of the hosts");
  job.every_host_reads = reads != 0;
  share_relay(job, host);
  share_arenas(job, host);
  // Ranks that are bound to different cores may count differently, and choose alike all the same.
  job.crowded = !host.all(!crowds_cores(job.host_ranks.size()));
}

// MPI counts in int.
int count_of(int64_t elements) {
  if (elements > std::numeric_limits<int>::max()) {
    throw UserError("MPI's own collectives count no more than " +
                    with_commas(std::numeric_limits<int>::max()) + " elements, and the array has " +
                    with_commas(elements));
  }
  return static_cast<int>(elements);
}

Seconds time_mpi(const World::LibraryCall& call, int size) {
  const int all = count_of(call.elements);
  const int share = all / size;
  check(MPI_Barrier(MPI_COMM_WORLD), "barrier");
  const Stopwatch watch;
  for (int i = 0; i < call.calls; ++i) {
    switch (call.operation) {
      case schedule::Operation::all_gather:
        check(MPI_Allgather(call.in, share, MPI_FLOAT, call.out, share, MPI_FLOAT, MPI_COMM_WORLD),
              "all_gather");
        break;
      case schedule::Operation::reduce_scatter:
        check(MPI_Reduce_scatter_block(call.in, call.out, share, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
              "reduce_scatter");
        break;
      case schedule::Operation::all_reduce:
        check(MPI_Allreduce(MPI_IN_PLACE, call.in, all, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD), "all_reduce");
        break;
      case schedule::Operation::broadcast:
        check(MPI_Bcast(call.in, all, MPI_FLOAT, 0, MPI_COMM_WORLD), "broadcast");
        break;
      case schedule::Operation::all_to_all:
        check(MPI_Alltoall(call.in, share, MPI_FLOAT, call.out, share, MPI_FLOAT, MPI_COMM_WORLD),
              "all_to_all");
        break;
    }
  }
  return watch.elapsed();
}

class MpiWorld final : public World {
 public:
  MpiWorld(std::shared_ptr<cpu::TransferThread> thread, Job job, Seconds deadline)
      : World(job.rank, job.size, job.host_ranks), thread_(std::move(thread)), job_(std::move(job)) {
    watch_over(std::make_shared<Watch>(&*job_.board, job_.rank, slot_of(job_.rank), deadline,
                                       job_.side_channel.others));
    place_hosts(job_.hosts);
    set_crowded(job_.crowded);
    thread_->set_bell(bell(), crowded());
    failures_ = std::uncaught_exceptions();
  }
  ~MpiWorld() override {
    end_transfers();
    // After a failure the peers will not come to the end of MPI: the job ends with this process, whose exit
    // code becomes mpirun's.
    if (std::uncaught_exceptions() > failures_) return;
    try {
      thread_->call([this] {
        job_.board->enter(slot_of(rank()), 0);
        MPI_Finalize();
      });
    } catch (...) {
      // nothing is left to do for a job that has ended
    }
  }
  std::optional<Seconds> time_library(const LibraryCall& call) override {
    Seconds out{0};
    thread_->call([&] { out = time_mpi(call, size()); });
    return out;
  }
  std::shared_ptr<cpu::PageSource> pages() override { return job_.arena; }
  std::shared_ptr<cpu::TransferThread> transfers() override { return thread_; }
  [[noreturn]] void abort(ExitCode code) override {
    try {
      thread_->call([code] { MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code)); });
    } catch (...) {
      // the process ends all the same
    }
    World::abort(code);
  }

 protected:
  ScheduledCommunicator::Transports transports() override {
    ScheduledCommunicator::Transports out;
    out.transport = job_.transport.get();
    out.board = &*job_.board;
    out.memory = job_.memory.get();
    if (job_.relay) out.relay = &*job_.relay;
    out.every_host_reads = job_.every_host_reads;
    out.has_library = true;
    return out;
  }
  std::shared_ptr<LibraryCollectives> library(const GroupMembers& members) override {
    std::shared_ptr<LibraryCollectives> out;
    thread_->call([&] { out = std::make_shared<MpiLibrary>(members.ranks, members.context); });
    return out;
  }

 private:
  std::shared_ptr<cpu::TransferThread> thread_;
  Job job_;
  int failures_ = 0;
};

}  // namespace

std::unique_ptr<World> make_mpi_world(Seconds deadline) {
  auto thread = std::make_shared<cpu::TransferThread>();
  auto job = std::make_unique<Job>();
  thread->call([&job] { start(*job); });
  // With many ranks to a core, those who wait look less often.
  const std::chrono::microseconds sleep = crowded_sleep(job->host_ranks.size());
  if (sleep > std::chrono::microseconds(800)) thread->set_longest_sleep(sleep);
  return std::make_unique<MpiWorld>(std::move(thread), std::move(*job), deadline);
}

}  // namespace toroid::mpi
