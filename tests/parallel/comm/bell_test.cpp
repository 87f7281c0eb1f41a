#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "core/base/clock.h"
#include "core/device/cpu/transfer_thread.h"
#include "tests/deadline.h"
#include "tests/parallel/local_world.h"

namespace toroid {
namespace {

using std::chrono::microseconds;
constexpr microseconds kForever = testing::kDeadline;  // of a sleep that nobody ends

TEST(Bell, EndsASleep) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  const auto bell = world->bell();
  const uint32_t before = bell->count();
  const Stopwatch watch;
  std::thread sleeper([&] { bell->sleep(before, kForever); });
  bell->ring();
  sleeper.join();
  EXPECT_LT(watch.elapsed(), Seconds(kForever)) << "the bell did not end the sleep";
  EXPECT_EQ(bell->count(), before + 1);
}

TEST(Bell, RungBeforeTheSleepEndsItToo) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  const auto bell = world->bell();
  const uint32_t before = bell->count();
  bell->ring();
  const Stopwatch watch;
  bell->sleep(before, kForever);
  EXPECT_LT(watch.elapsed(), Seconds(kForever)) << "the bell had been rung";
}

TEST(Bell, LetsASleepEndByItself) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  const auto bell = world->bell();
  bell->sleep(bell->count(), microseconds(100));
}

// Done at its third look.
class ThirdLook final : public Transfer {
 public:
  bool advance() override { return ++looks_ == 3; }
  bool rings() const override { return true; }

 private:
  int looks_ = 0;
};

TEST(Bell, HasTheThreadLookAgain) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  cpu::TransferThread thread;
  thread.set_longest_sleep(kForever);
  thread.set_bell(world->bell(), true);
  thread.enqueue({Queue::gather, 1}, std::make_unique<ThirdLook>());
  EXPECT_TRUE(testing::comes_true([&] {
    world->bell()->ring();
    return thread.done({Queue::gather, 1});
  })) << "the thread did not look again";
  thread.set_bell(nullptr, false);
}

}  // namespace
}  // namespace toroid
