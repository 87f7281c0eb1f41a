// Preloaded into checkpoint_saver: the TOROID_FAULT_AT'th system call that changes the file system (counted
// from 1) ends the process as kill -9 would, or fails with the error in TOROID_FAULT_ERROR. At exit the
// number of such calls is written to the file descriptor TOROID_FAULT_COUNT_TO.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

long number(const char* name) {
  const char* text = getenv(name);
  return text == nullptr ? 0 : atol(text);
}

long calls = 0;

// True where this call has to fail. Writes to the standard streams do not count.
bool fault() {
  static const long at = number("TOROID_FAULT_AT"), error = number("TOROID_FAULT_ERROR");
  if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != at) return false;
  if (error == 0) raise(SIGKILL);
  errno = static_cast<int>(error);
  return true;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

struct Report {
  ~Report() {
    const long to = number("TOROID_FAULT_COUNT_TO");
    if (to > 2) dprintf(static_cast<int>(to), "%ld", calls);
  }
} report;

}  // namespace

#pragma GCC visibility push(default)  // they stand in for those of the C library

extern "C" {

ssize_t write(int descriptor, const void* bytes, size_t count) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  if (descriptor > 2 && descriptor != number("TOROID_FAULT_COUNT_TO")) {
    if (fault()) {
      // A full disk takes a part of what it is given.
      return errno == ENOSPC && count > 1 ? real(descriptor, bytes, count / 2) : -1;
    }
  }
  return real(descriptor, bytes, count);
}

int fsync(int descriptor) {
  static const auto real = next<int (*)(int)>("fsync");
  return fault() ? -1 : real(descriptor);
}

int rename(const char* from, const char* to) {
  static const auto real = next<int (*)(const char*, const char*)>("rename");
  return fault() ? -1 : real(from, to);
}

int mkdir(const char* path, mode_t mode) {
  static const auto real = next<int (*)(const char*, mode_t)>("mkdir");
  return fault() ? -1 : real(path, mode);
}

int unlink(const char* path) {
  static const auto real = next<int (*)(const char*)>("unlink");
  return fault() ? -1 : real(path);
}

int unlinkat(int descriptor, const char* path, int flags) {
  static const auto real = next<int (*)(int, const char*, int)>("unlinkat");
  return fault() ? -1 : real(descriptor, path, flags);
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) {
  static const auto real = next<int (*)(int, const char*, int, const char*, unsigned)>("renameat2");
  return fault() ? -1 : real(from_directory, from, to_directory, to, flags);
}

int open(const char* path, int flags, ...) {
  static const auto real = next<int (*)(const char*, int, ...)>("open");
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    va_list list;
    va_start(list, flags);
    mode = va_arg(list, mode_t);
    va_end(list);
    if (fault()) return -1;
  }
  return real(path, flags, mode);
}

}  // extern "C"

#pragma GCC visibility pop
