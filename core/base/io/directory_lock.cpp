#include "core/base/io/directory_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"

namespace toroid {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr size_t kMostBytes = 4096;  // of a lock; ours are shorter
constexpr int kMostTakers = 8;       // that died one after the other while they took the same lock over
constexpr int kMostTries = 100;

// Who has a directory. A process is known by its start time too, since numbers come again, and by its
// namespace, since containers of one host have numbers of their own.
struct Holder {
  std::string host, boot, processes, job;
  int64_t process = 0, start = 0;
};

std::string first_line(const char* path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}

struct ProcessStatus {
  char state = '?';
  int64_t start = 0;  // clock ticks since the host's boot
};

// Nothing where the process cannot be seen.
std::optional<ProcessStatus> status_of(int64_t process) {
  const std::string line = first_line(("/proc/" + std::to_string(process) + "/stat").c_str());
  const size_t name_ends = line.rfind(')');  // a program's name may hold blanks and brackets
  if (name_ends == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_ends + 1));
  ProcessStatus status;
  fields >> status.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> status.start;
  return fields ? std::optional(status) : std::nullopt;
}

Holder this_process() {
  Holder holder;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) holder.host = printable(name.data());
  holder.boot = first_line("/proc/sys/kernel/random/boot_id");
  std::error_code ignored;
  holder.processes = std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
  holder.process = ::getpid();
  if (const auto status = status_of(holder.process)) holder.start = status->start;
  holder.job = job_of_environment();
  return holder;
}

// Whether `holder` is certain not to run any more.
bool gone(const Holder& holder, const Holder& self) {
  if (holder.host != self.host || holder.boot != self.boot || holder.processes != self.processes)
    return false;
  if (holder.boot.empty() || holder.processes.empty()) return false;
  if (::kill(static_cast<pid_t>(holder.process), 0) != 0 && errno == ESRCH) return true;
  const auto status = status_of(holder.process);
  if (!status) return false;  // /proc does not show other users' processes everywhere
  return status->start != holder.start || status->state == 'Z' || status->state == 'X';
}

std::string lock_text(const Holder& holder) {
  std::random_device random;
  std::string token;
  for (int i = 0; i < 2; ++i) token += hex((uint64_t{random()} << 32) | random());
  return nlohmann::ordered_json{{"format", "toroid lock"},   {"host", holder.host},
                                {"boot", holder.boot},       {"processes", holder.processes},
                                {"process", holder.process}, {"start", holder.start},
                                {"job", holder.job},         {"token", token}}
             .dump(1) +
         "\n";
}

// Nothing for a text that no lock of ours has.
std::optional<Holder> holder_of(const std::string& text) {
  try {
    const JsonDocument document =
        JsonDocument::parse(text, "lock", {.bytes = kMostBytes, .depth = 2, .values = 32});
    const JsonView root = document.root();
    Holder holder;
    holder.host = root.at("host").as_string();
    holder.boot = root.at("boot").as_string();
    holder.processes = root.at("processes").as_string();
    holder.job = root.at("job").as_string();
    holder.process = root.at("process").as_integer(1, std::numeric_limits<pid_t>::max());
    holder.start = root.at("start").as_integer(0, std::numeric_limits<int64_t>::max());
    return holder;
  } catch (const UserError&) {
    return std::nullopt;
  }
}

nanoseconds since_epoch(const timespec& time) {
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

// A lock as it lies there.
struct Seen {
  std::string text;
  ino_t file = 0;
  nanoseconds touched{0};  // by the file server's clock
  bool operator==(const Seen& other) const { return text == other.text && file == other.file; }
};

std::string said_by(const std::optional<Holder>& holder) {
  if (!holder) return "another program, which its lock does not name";
  return "process " + std::to_string(holder->process) + " on host " + printable(holder->host) +
         (holder->job.empty() ? "" : " (job " + printable(holder->job) + ")");
}

std::string seconds_text(nanoseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

// Nothing where there is no such file. Opened, not only looked at: that is when NFS asks its server anew.
std::optional<Seen> read_lock(const Path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::nullopt;
    throw SystemError("cannot read the status of " + in_quotes(path.string()), errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw UserError(
        in_quotes(path.string()) +
        " is not a regular file, as the lock of a directory is; remove it if no job writes there");
  }
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT || errno == ELOOP) return std::nullopt;  // replaced just now
    throw SystemError("cannot open " + in_quotes(path.string()), errno);
  }
  Seen seen;
  seen.text.resize(kMostBytes);
  size_t length = 0;
  int error = ::fstat(descriptor, &status) == 0 ? 0 : errno;
  while (error == 0 && length < kMostBytes) {
    const ssize_t n = ::read(descriptor, seen.text.data() + length, kMostBytes - length);
    if (n == 0) break;
    if (n > 0) length += static_cast<size_t>(n);
    if (n < 0 && errno != EINTR) error = errno;
  }
  ::close(descriptor);
  if (error == ESTALE) return std::nullopt;  // NFS: replaced just now
  if (error != 0) throw SystemError("cannot read " + in_quotes(path.string()), error);
  seen.text.resize(length);
  seen.file = status.st_ino;
  seen.touched = since_epoch(status.st_mtim);
  return seen;
}

// A file of this process's own, from which links are made; its time is what the file server's clock says now.
class OwnFile {
 public:
  OwnFile(const Path& directory, const std::string& text)
      : path_(directory / (".lock-" + hex(tensor_hash(std::as_bytes(std::span(text)), 1, 0)))), text_(text) {
    require(write(path_), "a random name is new");
  }
  ~OwnFile() { ::unlink(path_.c_str()); }
  OwnFile(const OwnFile&) = delete;  // removes its file
  OwnFile& operator=(const OwnFile&) = delete;

  // False where there is something of that name.
  bool link_to(const Path& name) const {
    if (::link(path_.c_str(), name.c_str()) == 0) return true;
    if (errno == EEXIST) return false;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK) {
      throw SystemError("cannot create " + in_quotes(name.string()), errno);
    }
    // A file system without links. Who reads before the text is there takes it for one that was just touched.
    return write(name);
  }
  nanoseconds now() const {
    struct stat status {};
    if (::utimensat(AT_FDCWD, path_.c_str(), nullptr, 0) != 0 || ::stat(path_.c_str(), &status) != 0) {
      throw SystemError("cannot touch " + in_quotes(path_.string()), errno);
    }
    return since_epoch(status.st_mtim);
  }

 private:
  bool write(const Path& path) const {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0 && errno == EEXIST) return false;
    if (descriptor < 0) throw SystemError("cannot create " + in_quotes(path.string()), errno);
    const ssize_t n = ::write(descriptor, text_.data(), text_.size());
    int error = n < 0 ? errno : n < static_cast<ssize_t>(text_.size()) ? ENOSPC : 0;
    if (::close(descriptor) != 0 && error == 0) error = errno;
    if (error == 0) return true;
    ::unlink(path.c_str());
    throw SystemError("cannot write " + in_quotes(path.string()), error);
  }
  Path path_;
  const std::string& text_;
};

}  // namespace

std::string job_of_environment() {
  constexpr std::array<std::pair<const char*, const char*>, 5> kNames{{{"SLURM_JOB_ID", "slurm "},
                                                                       {"PBS_JOBID", "pbs "},
                                                                       {"LSB_JOBID", "lsf "},
                                                                       {"JOB_ID", ""},
                                                                       {"PMIX_NAMESPACE", "mpi "}}};
  for (const auto& [name, scheduler] : kNames) {
    const char* const value = std::getenv(name);
    if (value != nullptr && *value != '\0') return scheduler + printable(value);
  }
  return {};
}

class DirectoryLock::Impl {
 public:
  Impl(const Path& directory, Times times)
      : directory_(directory),
        path_(directory / kName),
        times_(times),
        self_(this_process()),
        text_(lock_text(self_)) {
    // A job that gives the directory back may remove it just before this one makes its file there.
    for (int tries = 1;; ++tries) {
      made_ = make_directory() || made_;
      try {
        const OwnFile own(directory_, text_);
        acquire(own, path_, 0);
        break;
      } catch (const Error&) {
        std::error_code ignored;
        if (tries < 3 && !std::filesystem::exists(directory_, ignored)) continue;
        give_directory_back();
        throw;
      }
    }
    looked_ = now();
    thread_ = std::thread([this] { keep_touching(); });
  }

  ~Impl() {
    {
      const std::lock_guard guard(mutex_);
      ends_ = true;
    }
    wake_.notify_all();
    thread_.join();
    if (held()) ::unlink(path_.c_str());
    give_directory_back();
  }

  void confirm(milliseconds age) {
    {
      const std::lock_guard guard(mutex_);
      if (lost_.empty() && age.count() > 0 && now() - looked_ < age) return;
    }
    if (const std::string why = look(); !why.empty()) throw SystemError(why);
  }

  bool held() noexcept {
    try {
      confirm(milliseconds(0));
      return true;
    } catch (...) {
      return false;
    }
  }

 private:
  // Counts while the machine sleeps too, as the file server's clock does.
  static nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_BOOTTIME, &time);
    return since_epoch(time);
  }

  bool make_directory() {
    std::error_code ignored;
    const bool was_there = std::filesystem::exists(directory_, ignored);
    make_directories(directory_);
    return !was_there;
  }

  void give_directory_back() {
    if (made_) ::rmdir(directory_.c_str());  // fails where something is in it
  }

  // Makes `name` this process's. A stale one is succeeded to by whoever makes the name that its text gives,
  // which is one alone and then the only one that may replace it; should that one die as it does so, its own
  // file is succeeded to in the same way.
  void acquire(const OwnFile& own, const Path& name, int depth) {
    for (int tries = 0; tries < kMostTries; ++tries) {
      if (own.link_to(name)) return;
      const std::optional<Seen> seen = read_lock(name);
      if (!seen) continue;
      if (seen->text == text_) return;  // NFS may have made the link and lost the answer
      refuse_if_held(own, *seen);
      if (depth == kMostTakers) break;
      const Path successor =
          directory_ / (".lock-after-" + hex(tensor_hash(std::as_bytes(std::span(seen->text)), 1, 0)));
      acquire(own, successor, depth + 1);
      if (read_lock(name) != seen) {
        ::unlink(successor.c_str());
        continue;
      }
      if (::rename(successor.c_str(), name.c_str()) != 0) {
        const int error = errno;
        ::unlink(successor.c_str());
        throw SystemError("cannot take " + in_quotes(name.string()) + " over", error);
      }
      const std::optional<Seen> mine = read_lock(name);
      if (mine && mine->text == text_) return;
    }
    throw SystemError(
        "cannot take " + in_quotes(directory_.string()) +
        " over from jobs that have ended; remove the files .lock* in it if no job writes there");
  }

  void refuse_if_held(const OwnFile& own, const Seen& seen) const {
    const std::optional<Holder> holder = holder_of(seen.text);
    if (holder && gone(*holder, self_)) return;
    const nanoseconds age = own.now() - seen.touched;
    if (age > times_.stale_after) return;
    std::string advice = "; wait until it has ended, or give another directory";
    if (age < -times_.stale_after) {
      advice += " (its lock is of " + seconds_text(-age) +
                " from now by the file system's clock: remove .lock in it if that job has ended)";
    } else if (!holder || holder->host != self_.host) {
      advice += " (it was touched " + seconds_text(std::max(age, nanoseconds(0))) + " ago, and is free " +
                seconds_text(times_.stale_after) + " after the last touch)";
    }
    throw UserError(in_quotes(directory_.string()) + " is in use by " + said_by(holder) + advice);
  }

  // Why the lock is lost; "" while it is held. What is lost stays lost, since another may have written
  // meanwhile. Not under the mutex while it waits for the file server.
  std::string look() {
    const nanoseconds before = now();
    const std::string why = found();
    const std::lock_guard guard(mutex_);
    if (lost_.empty()) lost_ = why;
    if (lost_.empty()) looked_ = before;
    return lost_;
  }

  std::string found() const {
    const std::string ends = "; nothing more is written there";
    std::optional<Seen> seen;
    try {
      seen = read_lock(path_);
    } catch (const UserError& error) {
      return error.what();
    }
    if (!seen) {
      return in_quotes(path_.string()) +
             " was removed while this job ran, so another may have begun to write there" + ends;
    }
    if (seen->text == text_) return {};
    return in_quotes(directory_.string()) + " was taken over by " + said_by(holder_of(seen->text)) +
           ", as it may be where a job is stopped for longer than " + seconds_text(times_.stale_after) + ends;
  }

  void keep_touching() {
    std::unique_lock guard(mutex_);
    while (!wake_.wait_for(guard, times_.touched_every, [this] { return ends_; })) {
      guard.unlock();
      try {
        if (look().empty()) ::utimensat(AT_FDCWD, path_.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
      } catch (const SystemError&) {
        // confirm() says so to the one who would write
      }
      guard.lock();
    }
  }

  Path directory_, path_;
  Times times_;
  Holder self_;
  std::string text_;
  bool made_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ends_ = false;      // from here on under the mutex
  std::string lost_;       // why; empty while the lock is held
  nanoseconds looked_{0};  // when it was last seen to be held
  std::thread thread_;
};

DirectoryLock::DirectoryLock(const Path& directory) : DirectoryLock(directory, Times()) {}
DirectoryLock::DirectoryLock(const Path& directory, Times times)
    : impl_(std::make_unique<Impl>(directory, times)) {}
DirectoryLock::~DirectoryLock() = default;

void DirectoryLock::confirm(milliseconds age) {
  impl_->confirm(age);
}

bool DirectoryLock::held() noexcept {
  return impl_->held();
}

}  // namespace toroid
