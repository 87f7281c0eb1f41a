#include "parallel/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
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

SharedSegment::SharedSegment(std::string name, bool creates, int64_t bytes)
    : name_(std::move(name)), bytes_(bytes) {
  const int descriptor = ::shm_open(name_.c_str(), creates ? O_CREAT | O_EXCL | O_RDWR : O_RDWR, 0600);
  if (descriptor < 0) throw SystemError("cannot open shared memory " + name_, errno);
  named_ = creates;
  const auto fail = [&](const char* what) {
    const int error = errno;
    ::close(descriptor);
    unlink();
    throw SystemError(what + name_, error);
  };
  // Reserved, not only promised: a full /dev/shm is an error here and not a signal later.
  if (creates) {
    const int error = ::posix_fallocate(descriptor, 0, bytes);
    errno = error;
    if (error != 0) fail("no room in /dev/shm for ");
  }
  void* const address =
      ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED) fail("cannot map shared memory ");
  ::close(descriptor);
  data_ = static_cast<std::byte*>(address);
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      named_(std::exchange(other.named_, false)) {}

SharedSegment::~SharedSegment() {
  unlink();
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
}

void SharedSegment::unlink() {
  if (named_) ::shm_unlink(name_.c_str());
  named_ = false;
}

}  // namespace toroid
