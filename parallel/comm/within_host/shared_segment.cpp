#include "parallel/comm/within_host/shared_segment.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/base/error.h"

namespace toroid {

SharedSegment SharedSegment::create(const std::string& name, int64_t bytes) {
  return SharedSegment(name, true, bytes);
}

SharedSegment SharedSegment::open(const std::string& name, int64_t bytes) {
  return SharedSegment(name, false, bytes);
}

SharedSegment SharedSegment::anonymous(int64_t bytes) {
  SharedSegment out;
  out.bytes_ = bytes;
  out.descriptor_ = ::memfd_create("toroid", MFD_CLOEXEC);
  if (out.descriptor_ < 0) throw SystemError("cannot make shared memory", errno);
  // Beyond the limit the kernel would end the process.
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  if (limit.rlim_cur < static_cast<rlim_t>(bytes)) throw SystemError("cannot size shared memory", EFBIG);
  if (::ftruncate(out.descriptor_, bytes) != 0) throw SystemError("cannot size shared memory", errno);
  out.map();
  return out;
}

SharedSegment SharedSegment::attach(const std::string& path, int64_t bytes) {
  SharedSegment out;
  out.bytes_ = bytes;
  out.descriptor_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (out.descriptor_ < 0) throw SystemError("cannot open shared memory " + path, errno);
  out.map();
  return out;
}

std::string SharedSegment::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(descriptor_);
}

// On a huge page's boundary, cut out of a range that is a huge page longer: what lies in huge pages is mapped
// as such.
void SharedSegment::map() {
  const auto size = static_cast<size_t>(bytes_);
  void* const range =
      ::mmap(nullptr, size + kHugePageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw SystemError("cannot map shared memory " + name_, errno);
  auto* const begin = static_cast<std::byte*>(range);
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t before =
      (kHugePageBytes - reinterpret_cast<uintptr_t>(range) % kHugePageBytes) % kHugePageBytes;
  const size_t end = (before + size + page - 1) / page * page;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + end, size + kHugePageBytes - end);
  void* const address = ::mmap(begin + before, size, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_NORESERVE | MAP_FIXED, descriptor_, 0);
  if (address == MAP_FAILED) throw SystemError("cannot map shared memory " + name_, errno);
  data_ = static_cast<std::byte*>(address);
}

void SharedSegment::forget(int64_t offset, int64_t bytes) {
  (void)::fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}

SharedSegment::SharedSegment(std::string name, bool creates, int64_t bytes) : SharedSegment() {
  name_ = std::move(name);
  bytes_ = bytes;
  descriptor_ = ::shm_open(name_.c_str(), creates ? O_CREAT | O_EXCL | O_RDWR : O_RDWR, 0600);
  if (descriptor_ < 0) throw SystemError("cannot open shared memory " + name_, errno);
  named_ = creates;
  // Held while this process lives, by which launch/toroid/job_directory.h tells a name that it has left.
  if (creates) (void)::flock(descriptor_, LOCK_EX | LOCK_NB);
  // Reserved, not only promised: a full /dev/shm is an error here and not a signal later.
  if (creates) {
    const int error = ::posix_fallocate(descriptor_, 0, bytes);
    if (error != 0) throw SystemError("no room in /dev/shm for " + name_, error);
  }
  map();
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      named_(std::exchange(other.named_, false)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedSegment::~SharedSegment() {
  unlink();
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool SharedSegment::leave_in(const std::string& directory, const std::string& name) {
  if (!named_ || ::rename(("/dev/shm" + name_).c_str(), (directory + "/" + name).c_str()) != 0) return false;
  named_ = false;
  return true;
}

void SharedSegment::unlink() {
  if (named_) ::shm_unlink(name_.c_str());
  named_ = false;
}

}  // namespace toroid
