// What runs beside the loop: batches made ahead, checkpoints read back and pruned, signals that arrive on
// another thread. For the thread sanitizer, so with one OpenMP thread.
#include <gtest/gtest.h>
#include <pthread.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/deadline.h"
#include "tests/train/loop/runs.h"
#include "train/loop/signals.h"

namespace toroid::train {
namespace {

using RunThreadsTest = RunsTest;

TEST_F(RunThreadsTest, BatchesAndReadBackBesideTheLoop) {
  const TrainOptions beside = options(
      "beside", {"train.threads=1", "data.threads=2", "train.checkpoint.every=1", "train.checkpoint.keep=2"});
  EXPECT_EQ(run(beside), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(root_ / "beside"), (std::vector<int64_t>{7, 8}));
  EXPECT_EQ(CheckpointReader(root_ / "beside").state().step, 8);
}

TEST_F(RunThreadsTest, SavesBehindTheSteps) {
  const auto run_it = [](const std::string& name, std::vector<std::string> more) {
    more.insert(more.end(), {"train.threads=1", "train.checkpoint.every=1"});
    EXPECT_EQ(run(options(name, more)), ExitCode::done);
    EXPECT_EQ(checkpoint_steps(root_ / name), (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8})) << name;
  };
  run_it("at_once", {});
  for (const char* share : {"1", "0.01"}) {
    const std::string name = std::string("behind") + share;
    run_it(name, {"train.checkpoint.async=true", std::string("train.checkpoint.async_share=") + share});
    for (int step = 1; step <= 8; ++step) {
      const Path at = Path("checkpoints") / ("step-" + std::to_string(step));
      for (const char* part : {"master", "exp_avg", "exp_avg_sq", "ema"}) {
        const std::string file = std::string(part) + "-00000-of-00001.safetensors";
        EXPECT_EQ(read_file(root_ / name / at / file, 1 << 24),
                  read_file(root_ / "at_once" / at / file, 1 << 24))
            << name << " " << step << " " << part;
      }
    }
    EXPECT_EQ(metrics(name), metrics("at_once"));
  }
}

TEST_F(RunThreadsTest, ASignalOnAnotherThreadSavesAndLeaves) {
  const TrainOptions endless = options("signal", {"train.threads=1", "data.threads=2", "train.steps=100000",
                                                  "train.checkpoint.every=3", "train.validate.every=0"});
  std::thread sender([] {
    EXPECT_TRUE(toroid::testing::comes_true([] { return !metrics("signal").empty(); }))
        << "the run wrote no row";
    pthread_kill(pthread_self(), SIGUSR1);  // the handler runs here, not on the loop's thread
  });
  EXPECT_EQ(run(endless), ExitCode::saved_on_signal);
  sender.join();
  EXPECT_GT(CheckpointReader(root_ / "signal").state().step, 0);
}

TEST(Signals, AreSeenByTheThreadThatLooks) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const SignalGuard guard;
    EXPECT_EQ(guard.received(), 0);
    std::thread sender([signal] { pthread_kill(pthread_self(), signal); });
    EXPECT_TRUE(toroid::testing::comes_true([&] { return guard.received() != 0; }))
        << "nobody saw the signal";
    EXPECT_EQ(guard.received(), signal);
    sender.join();
  }
}

TEST(Signals, WhatWasThereBeforeComesBack) {
  const auto mine = [](int) {};
  const auto before = std::signal(SIGUSR1, mine);
  {
    const SignalGuard guard;
    std::raise(SIGUSR1);
    EXPECT_EQ(guard.received(), SIGUSR1);
  }
  EXPECT_EQ(std::signal(SIGUSR1, before), +mine);
}

}  // namespace
}  // namespace toroid::train
