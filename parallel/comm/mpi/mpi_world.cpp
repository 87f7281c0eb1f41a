#include "parallel/comm/mpi/mpi_world.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "core/base/text.h"
#include "parallel/comm/board.h"
#include "parallel/comm/mpi/mpi_transport.h"
#include "parallel/comm/peer_memory.h"
#include "parallel/comm/shared_segment.h"

namespace toroid::mpi {
namespace {

// Everything that is found out before the first group is made; on the transfer thread alone.
struct Job {
  int rank = 0, size = 1;
  std::vector<int> host_ranks;
  std::unique_ptr<MpiTransport> transport;
  std::optional<SharedSegment> segment;
  std::optional<Board> board;
  std::unique_ptr<PeerMemory> memory;  // nullptr where ranks cannot read each other's
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
// it.
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
  if (host.slot() == 0) job.segment->unlink();
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

void start(Job& job) {
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
  share_board(job, host);
  try_memory(job, host);
}

class MpiWorld final : public World {
 public:
  MpiWorld(std::shared_ptr<cpu::TransferThread> thread, Job job, Seconds deadline)
      : World(job.rank, job.size, job.host_ranks), thread_(std::move(thread)), job_(std::move(job)) {
    watch_over(std::make_shared<Watch>(&*job_.board, job_.rank, slot_of(job_.rank), deadline));
    failures_ = std::uncaught_exceptions();
  }
  ~MpiWorld() override {
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
  [[noreturn]] void abort(ExitCode code) override {
    try {
      thread_->call([code] { MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code)); });
    } catch (...) {
      // the process ends all the same
    }
    World::abort(code);
  }

 protected:
  ScheduledCommunicator::Means means() override {
    return {job_.transport.get(), &*job_.board, job_.memory.get()};
  }

 private:
  std::shared_ptr<cpu::TransferThread> thread_;
  Job job_;
  int failures_ = 0;
};

}  // namespace

std::unique_ptr<World> make_mpi_world(std::shared_ptr<cpu::TransferThread> thread, Seconds deadline) {
  auto job = std::make_unique<Job>();
  thread->call([&job] { start(*job); });
  // With many ranks to a core, those who wait look less often.
  const std::chrono::microseconds sleep = crowded_sleep(job->host_ranks.size());
  if (sleep > std::chrono::microseconds(800)) thread->set_longest_sleep(sleep);
  return std::make_unique<MpiWorld>(std::move(thread), std::move(*job), deadline);
}

}  // namespace toroid::mpi
