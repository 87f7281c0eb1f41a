#include "core/base/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {

std::string quoted(const Path& path) {
  return "'" + printable(path.string(), 4096) + "'";
}

namespace {

// O_NONBLOCK so that opening a FIFO returns; it is then refused as not regular.
int open_regular(const Path& path, int64_t* size, Symlinks symlinks = Symlinks::follow) {
  const int no_follow = symlinks == Symlinks::refuse ? O_NOFOLLOW : 0;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | no_follow);
  if (descriptor < 0) {
    if (errno == ELOOP && symlinks == Symlinks::follow) {
      throw UserError(quoted(path) + " is a symbolic link that leads back to itself; it names no file");
    }
    if (errno == ELOOP) {
      throw UserError(quoted(path) +
                      " is a symbolic link, which is not followed here; put the file itself in its place");
    }
    if (errno == ENOENT || errno == ENOTDIR) throw UserError("file " + quoted(path) + " does not exist");
    throw SystemError("cannot open " + quoted(path), errno);
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    const int error = errno;
    ::close(descriptor);
    throw SystemError("cannot read the status of " + quoted(path), error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw UserError(quoted(path) + " is not a regular file; give the path of a regular file");
  }
  *size = status.st_size;
  return descriptor;
}

bool reads_past_cache(int descriptor) {
  return (::fcntl(descriptor, F_GETFL) & O_DIRECT) != 0;
}

}  // namespace

InputFile::InputFile(const Path& path, Symlinks symlinks) : path_(path) {
  descriptor_ = open_regular(path, &size_, symlinks);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

void InputFile::read_at(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(descriptor_, out.data() + done, out.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EINVAL && reads_past_cache(descriptor_)) {  // not whole pages, or not there
      (void)::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) & ~O_DIRECT);
      continue;
    }
    if (n < 0) throw SystemError("cannot read " + quoted(path_), errno);
    if (n == 0) {
      throw UserError(quoted(path_) + " ends at byte " + std::to_string(offset + static_cast<int64_t>(done)) +
                      ", but " + std::to_string(out.size() - done) +
                      " more bytes were expected there; the file is truncated");
    }
    done += static_cast<size_t>(n);
  }
}

void InputFile::drop_cache() const {
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
}

void InputFile::reads_on(int64_t offset) const {
  constexpr int64_t kAhead = int64_t{32} << 20;
  if (offset % kAhead != 0) return;
  const int64_t first = offset == 0 ? 0 : offset + kAhead;
  ::posix_fadvise(descriptor_, first, offset + 2 * kAhead - first, POSIX_FADV_WILLNEED);
}

void InputFile::read_from_disk() const {
  drop_cache();
  (void)::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) | O_DIRECT);
}

std::string read_file(const Path& path, int64_t limit) {
  const InputFile file(path);
  if (file.size() > limit) {
    throw UserError(quoted(path) + " is " + std::to_string(file.size()) + " bytes long, but at most " +
                    std::to_string(limit) + " are allowed here");
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text.data(), text.size())));
  return text;
}

OutputFile::OutputFile(const Path& path, Name name)
    : path_(path),
      temporary_(path.string() + (name == Name::at_once ? "" : ".tmp-" + std::to_string(::getpid()))) {
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw SystemError("cannot create " + quoted(temporary_), errno);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void OutputFile::write(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError("cannot write " + quoted(temporary_), errno);
    done += static_cast<size_t>(n);
  }
  size_ += static_cast<int64_t>(bytes.size());
  // The disk works while more comes: a sync at the end alone would leave it idle until then. What fails here
  // fails again there.
  constexpr int64_t kAtOnce = int64_t{8} << 20;
  if (size_ - on_its_way_ < kAtOnce) return;
  (void)::sync_file_range(descriptor_, on_its_way_, size_ - on_its_way_, SYNC_FILE_RANGE_WRITE);
  on_its_way_ = size_;
}

void OutputFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void OutputFile::read_back(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(descriptor_, out.data() + done, out.size() - done,
                              static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError("cannot read back " + quoted(temporary_), errno);
    if (n == 0) throw SystemError(quoted(temporary_) + " has become shorter while it was written");
    done += static_cast<size_t>(n);
  }
}

void OutputFile::commit() {
  const auto fail = [&](const char* what, int error) {
    ::unlink(temporary_.c_str());
    throw SystemError(std::string("cannot ") + what + " " + quoted(temporary_), error);
  };
  if (::fsync(descriptor_) != 0) {
    const int error = errno;
    ::close(std::exchange(descriptor_, -1));
    fail("sync", error);
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("close", errno);
  if (temporary_ == path_) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename", errno);
  sync_directory(path_.parent_path());
}

void write_file(const Path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const Path& directory) {
  const Path target = directory.empty() ? Path(".") : directory;
  const int descriptor = ::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw SystemError("cannot open directory " + quoted(target), errno);
  const int status = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (status != 0) throw SystemError("cannot sync directory " + quoted(target), error);
}

void make_directories(const Path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw SystemError("cannot create directory " + quoted(directory), error.value());
}

bool is_present(const Path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw SystemError("cannot look for " + quoted(path), errno);
}

bool is_present_directory(const Path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return S_ISDIR(status.st_mode);
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw SystemError("cannot look for " + quoted(path), errno);
}

bool is_reachable(const Path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

std::vector<Path> list_directory(const Path& directory) {
  std::vector<Path> entries;
  std::error_code error;
  // Its ++ throws where its increment() reports.
  std::filesystem::directory_iterator entry(directory, error), end;
  while (!error && entry != end) {
    entries.push_back(entry->path());
    entry.increment(error);
  }
  if (error) throw SystemError("cannot list directory " + quoted(directory), error.value());
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace toroid
