#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "core/device/cpu/transfer_thread.h"
#include "tests/parallel/local_world.h"

namespace toroid {
namespace {

using std::chrono::microseconds;
constexpr microseconds kForever{600'000'000};  // longer than the test may take

TEST(Bell, EndsASleep) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  const auto bell = world->bell();
  const uint32_t before = bell->count();
  std::thread sleeper([&] { bell->sleep(before, kForever); });
  bell->ring();
  sleeper.join();
  EXPECT_EQ(bell->count(), before + 1);
}

TEST(Bell, RungBeforeTheSleepEndsItToo) {
  LocalJob job(2, {});
  const auto world = job.world(0);
  const auto bell = world->bell();
  const uint32_t before = bell->count();
  bell->ring();
  bell->sleep(before, kForever);
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
  while (!thread.done({Queue::gather, 1})) world->bell()->ring();
  thread.set_bell(nullptr, false);
}

}  // namespace
}  // namespace toroid
