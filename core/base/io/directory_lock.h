// One owner for a directory that is written: DIR/.lock says which process of which host it is.
//
// The file is made by link(2), which one of several succeeds in on NFS too, and is touched while the owner
// lives. It is stale where that process is gone from this boot of this host, or where it was left untouched
// for a minute of the file server's clock; then the next one takes it over. A process that was stopped for
// longer than that finds its lock taken and must ask, by confirm(), before it writes.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/base/io/file.h"

namespace toroid {

class DirectoryLock {
 public:
  struct Times {
    std::chrono::milliseconds touched_every{10'000};
    std::chrono::milliseconds stale_after{60'000};
  };
  static constexpr const char* kName = ".lock";

  // Creates the directory where it is not there. UserError, which names the owner, where another process has
  // the directory, and where DIR/.lock is no regular file; SystemError where it cannot be written.
  explicit DirectoryLock(const Path& directory);
  DirectoryLock(const Path& directory, Times times);
  ~DirectoryLock();  // gives it back, and a directory that it made and that is still empty
  DirectoryLock(const DirectoryLock&) = delete;  // the lock has one holder
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  // SystemError where the lock is not this process's any more; from any thread. A look at the file that was
  // taken less than `age` ago serves.
  void confirm(std::chrono::milliseconds age = std::chrono::milliseconds(0));
  // The same as an answer.
  bool held() noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The job that this process is part of, as its scheduler or MPI names it: "slurm 4711"; "" where none does.
std::string job_of_environment();

}  // namespace toroid
