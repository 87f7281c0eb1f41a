#include "train/checkpoint/background_thread.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace toroid {
namespace {

bool take(int policy) {
  const sched_param none{};
  return ::sched_setscheduler(0, policy, &none) == 0;
}

TEST(BackgroundThread, HasWhatIsLeftOverUntilSomebodyWaitsForIt) {
  // What this system lets a thread do.
  bool lowers = false, raises = false;
  std::thread([&] {
    lowers = take(SCHED_IDLE);
    raises = lowers && take(SCHED_OTHER);
  }).join();
  BackgroundThread thread;
  thread.join();  // there is none
  EXPECT_FALSE(thread.joinable());
  const auto mine = [] { return ::sched_getscheduler(0); };
  const int others = mine();
  for (int again = 0; again < 2; ++again) {
    std::atomic<int> first{-1};
    std::atomic<bool> hurried{false};
    int last = -1;
    thread.start([&] {
      first = mine();
      while (!hurried) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      last = mine();
    });
    EXPECT_TRUE(thread.joinable());
    while (first < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(first, lowers ? SCHED_IDLE : others);
    thread.hurry();
    hurried = true;
    thread.join();
    EXPECT_FALSE(thread.joinable());
    EXPECT_EQ(last, lowers && !raises ? SCHED_IDLE : SCHED_OTHER);
    EXPECT_EQ(mine(), others);
  }
  // One that is waited for at once, and one whose work is over, are no special cases.
  for (int again = 0; again < 100; ++again) {
    bool done = false;
    thread.start([&] { done = true; });
    if (again % 2 == 0) thread.hurry();
    thread.join();
    EXPECT_TRUE(done);
  }
}

}  // namespace
}  // namespace toroid
