#include "launch/toroid/job_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"

namespace toroid::launch {
namespace {

constexpr std::string_view kPrefix = "toroid-job-", kOwner = "owner";

std::string first_line(const Path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// For whoever finds the directory and wants to know whose it is; the lock alone decides.
std::string who_owns() {
  std::string stat = first_line("/proc/self/stat");  // "pid (name) state ...", the start being word 22
  stat.erase(0, stat.rfind(')') + 1);
  std::string start;
  size_t at = 0;
  for (int word = 3; word <= 22 && at != std::string::npos; ++word) {
    at = stat.find_first_not_of(' ', at);
    if (at == std::string::npos) break;
    const size_t end = stat.find(' ', at);
    if (word == 22) start = stat.substr(at, end - at);
    at = end;
  }
  return "process " + std::to_string(::getpid()) + "\nstart " + start + "\nboot " +
         first_line("/proc/sys/kernel/random/boot_id") + "\n";
}

// Locked before it has its name: whoever finds it unlocked knows that its owner is gone.
Descriptor make_owner(const Path& directory) {
  const Path unnamed = directory / (std::string(kOwner) + ".new");
  Descriptor file(::open(unnamed.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const std::string text = who_owns();
  const bool made = file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 &&
                    ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                    ::rename(unnamed.c_str(), (directory / kOwner).c_str()) == 0;
  if (!made) throw SystemError("cannot make " + in_quotes((directory / kOwner).string()), errno);
  return file;
}

bool is_ours(int descriptor, struct stat& status) {
  return ::fstat(descriptor, &status) == 0 && status.st_uid == ::geteuid();
}

bool is_old(const struct stat& status) {
  constexpr time_t kMinute = 60;
  return ::time(nullptr) - status.st_ctim.tv_sec > kMinute;
}

// `descriptor` was opened without following a link.
bool is_locked(int descriptor) {
  return ::flock(descriptor, LOCK_EX | LOCK_NB) != 0;
}

void sweep_directory(int parent, const Path& path) {
  const Descriptor directory(
      ::openat(parent, path.filename().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (directory.get() < 0 || !is_ours(directory.get(), status)) return;
  const Descriptor owner(
      ::openat(directory.get(), std::string(kOwner).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  // Without the file it is being made, or its maker was killed in between, or is an older version's.
  if (owner.get() < 0 && (errno != ENOENT || !is_old(status))) return;
  if (owner.get() >= 0 && is_locked(owner.get())) return;
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) log::info("removed {}, which a job that is gone had left", printable(path.string()));
}

// "toroid-PID-HEX", named only while a job starts.
void sweep_segment(int parent, const Path& path) {
  const std::string name = path.filename().string();
  const Descriptor file(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || !is_ours(file.get(), status) || !S_ISREG(status.st_mode) || !is_old(status)) return;
  if (!is_locked(file.get())) (void)::unlinkat(parent, name.c_str(), 0);
}

bool is_segment(std::string_view name) {
  constexpr std::string_view kBegin = "toroid-";
  if (!name.starts_with(kBegin)) return false;
  name.remove_prefix(kBegin.size());
  const size_t digits = name.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || name[digits] != '-') return false;
  name.remove_prefix(digits + 1);
  return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

JobDirectory::JobDirectory(const Path& parent) {
  std::string name = (parent / (std::string(kPrefix) + "XXXXXX")).string();
  if (::mkdtemp(name.data()) == nullptr) throw SystemError("cannot make " + in_quotes(name), errno);
  path_ = name;
  try {
    owner_ = make_owner(path_);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    throw;
  }
}

JobDirectory::~JobDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void sweep_abandoned(const Path& parent) {
  const Descriptor directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return;
  std::vector<Path> entries;
  try {
    entries = list_directory(parent);
  } catch (const SystemError&) {
    return;  // what cannot be listed is not ours to clean
  }
  for (const Path& path : entries) {
    const std::string name = path.filename().string();
    if (name.starts_with(kPrefix)) sweep_directory(directory.get(), path);
    if (is_segment(name)) sweep_segment(directory.get(), path);
  }
}

}  // namespace toroid::launch
