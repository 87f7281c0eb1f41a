// A thread that works beside the steps of a run and is not to take their time.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <thread>

namespace toroid {

// It has what the processors have left over, and the lowest share of a disk whose scheduler knows priorities;
// where the system refuses, it is as others are. Work that shares memory with the steps takes no lock that
// they wait for: they would wait for a processor to be left over.
class BackgroundThread {
 public:
  BackgroundThread() = default;
  ~BackgroundThread() { join(); }
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  void start(std::function<void()> work);  // waits for the work before, if it has not been joined
  bool joinable() const { return thread_.joinable(); }
  // Somebody waits for it: from now on it has a share like others, where the system lets us (Linux lets root,
  // or who may raise priorities); the waiting thread leaves its own processor to it in any case.
  void hurry();
  void join();  // hurries it; at once where there is none

 private:
  std::thread thread_;
  std::atomic<pid_t> number_{0};  // the system's, once it has begun
  std::atomic<bool> hurried_{false};
};

}  // namespace toroid
