#include "tests/core/base/io/file_calls.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "tests/deadline.h"

namespace {

std::atomic<bool> links_work{true};
std::atomic<int> calls_to_live{0};  // the call that takes it to 0 is not made

void count_call() {
  if (calls_to_live > 0 && --calls_to_live == 0) ::raise(SIGKILL);
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// These stand in for the C library's.
extern "C" {

int link(const char* from, const char* to) noexcept {
  count_call();
  if (links_work) return real<int (*)(const char*, const char*)>("link")(from, to);
  errno = EPERM;
  return -1;
}

int rename(const char* from, const char* to) noexcept {
  count_call();
  return real<int (*)(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  count_call();
  return real<int (*)(const char*)>("unlink")(path);
}

int mkdir(const char* path, mode_t mode) noexcept {
  count_call();
  return real<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

int fsync(int descriptor) {
  count_call();
  return real<int (*)(int)>("fsync")(descriptor);
}

}  // extern "C"

namespace toroid::test {

void allow_links(bool allow) {
  links_work = allow;
}

int killed_at(int call, const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    testing::end_by_the_deadline();
    calls_to_live = call;
    try {
      work();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace toroid::test
