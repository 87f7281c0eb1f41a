#include "train/checkpoint/background_thread.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace toroid {
namespace {

// On Linux these are a thread's own, whatever POSIX says of processes.
void set_policy(pid_t thread, int policy) {
  const sched_param none{};
  (void)::sched_setscheduler(thread, policy, &none);
}

void lower_share_of_disk() {
  constexpr int kWhoProcess = 1, kBestEffort = 2, kLowest = 7, kClassShift = 13;  // linux/ioprio.h
  (void)::syscall(SYS_ioprio_set, kWhoProcess, 0, (kBestEffort << kClassShift) | kLowest);
}

}  // namespace

void BackgroundThread::start(std::function<void()> work) {
  join();
  number_ = 0;
  hurried_ = false;
  thread_ = std::thread([this, work = std::move(work)] {
    lower_share_of_disk();
    const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
    // Not a lower "nice" value: such a thread keeps a processor for a slice when a step's thread wakes up.
    set_policy(self, SCHED_IDLE);
    number_ = self;
    if (hurried_) set_policy(self, SCHED_OTHER);
    work();
    number_ = 0;
  });
}

void BackgroundThread::hurry() {
  if (hurried_.exchange(true)) return;
  if (const pid_t number = number_; number != 0) set_policy(number, SCHED_OTHER);
}

void BackgroundThread::join() {
  if (!thread_.joinable()) return;
  hurry();
  thread_.join();
}

}  // namespace toroid
