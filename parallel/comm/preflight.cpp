#include "parallel/comm/preflight.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/device/cpu/host_info.h"
#include "parallel/comm/board/board.h"

namespace toroid {
namespace {

// OpenMPI 4.1 (its btl vader) makes a segment of shared memory for each rank only where 1.05 times its size
// is free, although pages are taken as they are used. What a rank uses at the start, and in training, where
// most bytes go past MPI, was measured in runs of 2 to 64 ranks.
constexpr int64_t kSegment = 4'194'312;
constexpr int64_t kUsedOfSegment = 200'000;

constexpr int64_t kFilesOfRank = 40, kFilesOfMpirun = 44, kPipesOfRank = 3;
constexpr int64_t kThreadsOfRank = 6;          // beside the compute team
constexpr int64_t kMemoryOfRank = 20'000'000;  // of a rank without arrays
constexpr int kMostRanksOfCore = 64;           // beyond, a start takes minutes

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ranks_text(int ranks) {
  return std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks");
}

// Why nothing can be made in `directory`; empty: it can. Tried, since root is told that it may write where it
// cannot.
std::string problem_of(const std::string& directory) {
  std::string name = directory + "/toroid-trial-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) return std::generic_category().message(errno);
  ::rmdir(name.c_str());
  return "";
}

std::optional<int64_t> free_bytes(const std::string& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) return std::nullopt;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

std::optional<int64_t> number_in(const char* path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value) return value;  // "max" where there is no limit
  return std::nullopt;
}

std::optional<int64_t> tasks_left() {
  const auto most = number_in("/sys/fs/cgroup/pids.max"), now = number_in("/sys/fs/cgroup/pids.current");
  if (!most || !now) return std::nullopt;
  return *most - *now;
}

// Whole megabytes to give a tmpfs so that none of this is met again.
std::string mebibytes(int64_t bytes) {
  return std::to_string((bytes + bytes / 4) / (int64_t{1} << 20) + 1);
}

void check_free_shared_memory(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  const int64_t start = shared_bytes_to_start(needs.ranks), most = shared_bytes_at_most(needs.ranks);
  const std::string found =
      in_quotes(host.shared_directory) + " has " + human_bytes(*host.shared_free) + " free";
  const std::string size = mebibytes(most);
  const std::string remedy = "; enlarge it (mount -o remount,size=" + size + "M " +
                             printable(host.shared_directory) +
                             "), or give the container --shm-size=" + size + "m";
  if (*host.shared_free < start) {
    out.push_back({true, found + ", but " + ranks_text(needs.ranks) + " on this host need " +
                             human_bytes(start) + " there to start and may come to need " +
                             human_bytes(most) + remedy});
  } else if (*host.shared_free < most) {
    out.push_back({false, found + ", and " + ranks_text(needs.ranks) + " on this host may come to need " +
                              human_bytes(most) + " there: where it runs full a signal (SIGBUS) ends them" +
                              remedy});
  }
}

void check_shared_memory(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  if (needs.ranks < 2) return;
  if (host.shared_free) check_free_shared_memory(host, needs, out);
  if (!out.empty() && out.front().fatal) return;
  if (!host.shared_problem.empty()) {
    out.push_back({true, in_quotes(host.shared_directory) +
                             ", through which the ranks of a host talk, cannot be "
                             "written (" +
                             host.shared_problem + "); mount a tmpfs there that this user can write"});
  }
}

void check_temporary(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  if (!needs.launcher || host.temporary_problem.empty()) return;
  out.push_back({true, in_quotes(host.temporary_directory) +
                           ", where mpirun keeps the files of a job, cannot be "
                           "written (" +
                           host.temporary_problem + "); set TMPDIR to a directory that can"});
}

void check_open_files(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  const int64_t files = open_files_of(needs);
  if (!host.open_files || *host.open_files >= files) return;
  out.push_back(
      {true, "a process may have " + with_commas(*host.open_files) + " files open here, but " +
                 ranks_text(needs.ranks) + " on this host need " + with_commas(files) +
                 "; raise the limit (ulimit -n " + std::to_string(files) +
                 " where the hard limit allows it, else LimitNOFILE=, limits.conf or --ulimit nofile)"});
}

void check_tasks(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  const int64_t tasks = needs.ranks * (needs.threads + kThreadsOfRank);
  if (!host.tasks_left || *host.tasks_left >= tasks) return;
  out.push_back({true, with_commas(*host.tasks_left) +
                           " more threads may be started here (pids.max of the control "
                           "group), but " +
                           ranks_text(needs.ranks) + " of " + std::to_string(needs.threads) +
                           " threads need " + with_commas(tasks) +
                           "; raise it (--pids-limit of a container), or take fewer ranks or threads"});
}

void check_memory(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  const int64_t bytes = needs.ranks * (needs.bytes_per_rank + kMemoryOfRank);
  const std::string needed =
      ranks_text(needs.ranks) + " on this host need some " + human_bytes(bytes) +
      (needs.bytes_per_rank == 0 ? " before they hold any array"
                                 : ", " + human_bytes(needs.bytes_per_rank) +
                                       " of arrays each (toroid train --dry-run lists them)") +
      "; take fewer ranks or a smaller batch or model, or a larger machine";
  if (host.memory && *host.memory < bytes) {
    out.push_back({true, "this machine or its container has " + human_bytes(*host.memory) +
                             " of memory, but " + needed});
  } else if (host.memory_available && *host.memory_available < bytes) {
    out.push_back(
        {false, human_bytes(*host.memory_available) + " of memory are available now, and " + needed});
  }
}

void check_cores(const HostFacts& host, const HostNeeds& needs, std::vector<Shortage>& out) {
  if (needs.ranks <= int64_t{kMostRanksOfCore} * host.cores) return;
  out.push_back({false, ranks_text(needs.ranks) + " share " + std::to_string(host.cores) +
                            (host.cores == 1 ? " core" : " cores") +
                            ": starting takes minutes, and train.deadline_s must be long enough for it"});
}

}  // namespace

int64_t shared_bytes_to_start(int ranks) {
  if (ranks < 2) return 0;
  return kSegment + kSegment / 20 + (ranks - 1) * kUsedOfSegment + Board::bytes_for(ranks);
}

int64_t shared_bytes_at_most(int ranks) {
  if (ranks < 2) return 0;
  return ranks * (kSegment + kSegment / 20) + Board::bytes_for(ranks);
}

int64_t open_files_of(const HostNeeds& needs) {
  const int64_t ranks = needs.ranks;
  const int64_t rank = kFilesOfRank + ranks + 2 * int64_t{needs.other_ranks};
  return needs.launcher ? std::max(rank, kFilesOfMpirun + kPipesOfRank * ranks) : rank;
}

std::vector<Shortage> find_shortages(const HostFacts& host, const HostNeeds& needs) {
  std::vector<Shortage> out;
  check_shared_memory(host, needs, out);
  check_temporary(host, needs, out);
  check_open_files(host, needs, out);
  check_tasks(host, needs, out);
  check_memory(host, needs, out);
  check_cores(host, needs, out);
  std::stable_partition(out.begin(), out.end(), [](const Shortage& each) { return each.fatal; });
  return out;
}

HostFacts look_at_host() {
  HostFacts out;
  const HostInfo info = host_info();
  out.cores = info.cores;
  if (info.memory_total > 0) out.memory = info.memory_total;
  if (info.memory_total > 0) out.memory_available = info.memory_available;
  out.shared_directory = environment("OMPI_MCA_btl_vader_backing_directory");
  if (out.shared_directory.empty()) out.shared_directory = "/dev/shm";
  out.shared_problem = problem_of(out.shared_directory);
  out.shared_free = free_bytes(out.shared_directory);
  for (const char* name : {"OMPI_MCA_orte_tmpdir_base", "TMPDIR", "TEMP", "TMP"}) {
    if (out.temporary_directory.empty()) out.temporary_directory = environment(name);
  }
  if (out.temporary_directory.empty()) out.temporary_directory = "/tmp";
  out.temporary_problem = problem_of(out.temporary_directory);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY) {
    out.open_files = static_cast<int64_t>(files.rlim_max);
  }
  out.tasks_left = tasks_left();
  return out;
}

void require_host(const HostNeeds& needs) {
  for (const Shortage& each : find_shortages(look_at_host(), needs)) {
    if (each.fatal) throw SystemError(each.text);
  }
}

void check_host(const HostNeeds& needs) {
  for (const Shortage& each : find_shortages(look_at_host(), needs)) {
    if (each.fatal) throw SystemError(each.text);
    log::warn("{}", each.text);
  }
}

void allow_open_files(int64_t files) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const auto wanted = static_cast<rlim_t>(files);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

void check_launcher_is_there() {
  const std::string directory = environment("PMIX_SERVER_TMPDIR");
  if (directory.empty() || is_reachable(directory)) return;
  throw SystemError("the environment says that mpirun started this process (OMPI_COMM_WORLD_SIZE is " +
                    in_quotes(environment("OMPI_COMM_WORLD_SIZE")) +
                    "), but that job is gone: its directory " + in_quotes(directory) +
                    " is not there; unset the variables OMPI_* and PMIX_*, which were "
                    "copied from a rank of it");
}

}  // namespace toroid
