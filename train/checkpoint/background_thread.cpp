#include "train/checkpoint/background_thread.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>
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
  since_.restart();
  had_ = Seconds(0);
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

Seconds BackgroundThread::spent() {
  clockid_t clock{};
  timespec time{};
  if (!joinable() || ::pthread_getcpuclockid(thread_.native_handle(), &clock) != 0) return Seconds(0);
  if (::clock_gettime(clock, &time) != 0) return Seconds(0);
  return Seconds(static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec));
}

void BackgroundThread::leave_time(double share) {
  if (number_ == 0) return;  // over, or about to begin
  const Seconds had = spent(), lacks = share * since_.elapsed() - (had - had_);
  if (lacks.count() > 0) std::this_thread::sleep_for(lacks);
  since_.restart();
  had_ = had;
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
