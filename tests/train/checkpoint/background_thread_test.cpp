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

TEST(BackgroundThread, IsLeftTimeForWhatItLacks) {
  BackgroundThread thread;
  thread.leave_time(1000);  // there is none
  std::atomic<bool> begun{false}, end{false};
  thread.start([&] {
    begun = true;
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  constexpr auto kWhile = std::chrono::milliseconds(20);
  std::this_thread::sleep_for(kWhile);
  const Stopwatch since;
  thread.leave_time(2);  // it sleeps, so that it lacks nearly all of them
  EXPECT_GT(since.elapsed(), 1.5 * Seconds(kWhile));
  end = true;
  thread.join();
  // What works all the time lacks nothing.
  end = false;
  std::atomic<int> turns{0};
  thread.start([&] {
    while (!end) ++turns;
  });
  thread.hurry();
  while (turns < 1000000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Stopwatch again;
  thread.leave_time(1e-9);
  EXPECT_LT(again.elapsed(), Seconds(1));
  end = true;
}

}  // namespace
}  // namespace toroid
