// Saves that go on behind the steps: the same bytes as at once, one rank's failure known to all, nothing left
// behind by one that is given up; the ring that the state goes through, and which steps stay.
#include "train/checkpoint/save_behind.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/checkpoint/exchange.h"
#include "tests/train/checkpoint/fixture.h"
#include "tests/train/checkpoint/many_ranks.h"
#include "train/checkpoint/byte_ring.h"
#include "train/checkpoint/keep.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

// Steps of a run, in which the ranks tell each other how far they are.
SaveEnd end_of(SaveBehind& behind, const SaveGroup& group) {
  for (;;) {
    std::vector<double> all{behind.told()};
    if (group.rank.world_size > 1) {
      all.clear();
      for (const std::string& text : group.exchange(std::to_string(behind.told())))
        all.push_back(std::stod(text));
    }
    if (const auto end = behind.hear(all, group)) return *end;
    std::this_thread::yield();
  }
}

void expect_same_files(const Path& a, const Path& b) {
  int files = 0;
  for (const Path& path : list_directory(a)) {
    EXPECT_EQ(read_file(path, 1 << 24), read_file(b / path.filename(), 1 << 24)) << path;
    ++files;
  }
  EXPECT_EQ(files, std::distance(fs::directory_iterator(b), fs::directory_iterator()));
}

TEST(SaveBehind, GivesTheBytesOfASaveAtOnce) {
  const SmallRun whole(4);
  for (const int ranks : {1, 3}) {
    TemporaryDirectory at_once, behind;
    Exchange exchange(ranks);
    const std::string unexpected = testing::run_rank_threads(ranks, [&](int rank) {
      const auto slices = slices_of_rank(whole, rank, ranks);
      const SaveGroup group = exchange.group(rank);
      Checkpoints first(at_once.path(), {.newest = 2});
      first.save(whole.state, slices, group, 3);
      Checkpoints second(behind.path(), {.newest = 2});
      SaveBehind saving(second);
      saving.begin(whole.state, slices, group);
      EXPECT_TRUE(saving.under_way());
      const SaveEnd end = end_of(saving, group);
      EXPECT_EQ(end.step, 4);
      EXPECT_EQ(end.failure, "");
      EXPECT_FALSE(saving.under_way());
      EXPECT_TRUE(second.wait());
    });
    EXPECT_EQ(unexpected, "");
    expect_same_files(at_once / "checkpoints/step-4", behind / "checkpoints/step-4");
    CheckpointReader reader(behind.path());
    EXPECT_TRUE(whole.matches(reader));
  }
}

TEST(SaveBehind, ARankThatFailsIsNamedOnAllAndTheNextSaveWorks) {
  TemporaryDirectory run;
  Exchange exchange(3);
  const SmallRun before(3), now(4), next(5);
  save_checkpoint(run.path(), before.state, before.slices, 3);
  const std::string unexpected = testing::run_rank_threads(3, [&](int rank) {
    const SaveGroup group = exchange.group(rank);
    Checkpoints checkpoints(run.path(), {.newest = 3});
    SaveBehind saving(checkpoints);
    auto slices = slices_of_rank(now, rank, 3);
    std::atomic<bool> left{false};
    if (rank == 1)
      slices[2].fill = [](int64_t, std::span<std::byte>) { throw SystemError("the disk is full"); };
    saving.begin(now.state, slices, group, [&] { left = true; });
    const SaveEnd end = end_of(saving, group);
    EXPECT_EQ(end.failure, "rank 1 could not save its part of the checkpoint: the disk is full");
    EXPECT_TRUE(left || rank != 1);
    saving.begin(next.state, slices_of_rank(next, rank, 3), group);
    EXPECT_EQ(end_of(saving, group).failure, "");
    EXPECT_TRUE(checkpoints.wait());
  });
  EXPECT_EQ(unexpected, "");
  EXPECT_EQ(checkpoint_steps(run.path()), (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), fs::directory_iterator()), 2);
  CheckpointReader reader(run.path());
  EXPECT_TRUE(next.matches(reader));
}

TEST(SaveBehind, AReportThatIsNotOneIsAFailure) {
  TemporaryDirectory run;
  const SmallRun now(4);
  Checkpoints checkpoints(run.path(), {.newest = 2});
  SaveBehind saving(checkpoints);
  const SaveGroup lies{{0, 2}, [](const std::string& text) { return std::vector<std::string>{text, "{}"}; }};
  const SaveGroup opens{{0, 2}, [](const std::string&) { return std::vector<std::string>{"+", "+"}; }};
  saving.begin(now.state, now.slices, opens);
  SaveEnd end;
  for (;;) {
    const std::vector<double> all{saving.told(), saving.told()};
    if (const auto ended = saving.hear(all, lies)) {
      end = *ended;
      break;
    }
  }
  EXPECT_NE(end.failure, "");
  EXPECT_TRUE(checkpoint_steps(run.path()).empty());
}

TEST(SaveBehind, OneThatIsGivenUpEndsAndLeavesNoStep) {
  TemporaryDirectory run;
  const SmallRun now(4);
  std::vector<std::byte> memory(64);
  {
    ByteRing ring(memory);
    Checkpoints checkpoints(run.path(), {.newest = 2});
    auto slices = now.slices;
    for (TensorSlice& slice : slices) {
      slice.fill = [&ring](int64_t, std::span<std::byte> out) { ring.take(out); };
    }
    SaveBehind saving(checkpoints);
    saving.begin(now.state, slices, {});
    ring.leave();  // nobody puts anything in
  }
  EXPECT_TRUE(checkpoint_steps(run.path()).empty());
}

TEST(ByteRing, HandsBytesOnInTheirOrder) {
  for (const size_t size : {1, 7, 64, 5000}) {
    std::vector<std::byte> memory(size);
    ByteRing ring(memory);
    constexpr size_t kBytes = 20000;
    std::thread puts([&] {
      size_t next = 0;
      while (next < kBytes) {
        const auto room = ring.room(std::min<size_t>(1 + next % 97, kBytes - next));
        ASSERT_FALSE(room.empty());
        for (std::byte& byte : room) byte = static_cast<std::byte>(next++ % 251);
        ring.put(room.size());
      }
      ring.hand_over();
    });
    std::vector<std::byte> out;
    while (out.size() < kBytes) {
      std::vector<std::byte> piece(std::min<size_t>(1 + out.size() % 131, kBytes - out.size()));
      ring.take(piece);
      out.insert(out.end(), piece.begin(), piece.end());
    }
    puts.join();
    for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(out[i], static_cast<std::byte>(i % 251)) << i;
  }
}

TEST(ByteRing, HandsOverAtTheEndAndWhereItIsFull) {
  std::vector<std::byte> memory(8), two(2);
  ByteRing ring(memory);
  std::atomic<bool> taken{false};
  std::thread takes([&] {
    ring.take(two);
    taken = true;
    ring.take(two);
  });
  ring.put(ring.room(4).size());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(taken);
  ring.put(ring.room(4).size());
  ring.put(ring.room(1).size());  // hands the first eight over, and waits until some are taken
  ring.hand_over();
  takes.join();
  EXPECT_TRUE(taken);
}

TEST(ByteRing, EndsTheWaitsOfBothSides) {
  std::vector<std::byte> memory(4), piece(1);
  ByteRing empty(memory);
  std::thread leaves([&] { empty.leave(); });
  EXPECT_THROW(empty.take(piece), SystemError);
  leaves.join();
  ByteRing full(memory);
  full.put(full.room(4).size());
  std::thread leaves_too([&] { full.leave(); });
  EXPECT_THROW((void)full.room(1), SystemError);
  leaves_too.join();
}

TEST(KeepRules, TheNewestThoseForGoodAndTheBest) {
  const std::vector<KeptStep> steps = {{10, 5.0}, {20, 3.0}, {30, {}},  {40, 3.0},
                                       {50, 4.0}, {60, {}},  {70, 9.0}, {80, std::nan("")}};
  const auto removed = [&](KeepRules rules) { return steps_to_remove(steps, rules); };
  EXPECT_EQ(removed({.newest = 3}), (std::vector<int64_t>{10, 20, 30, 40, 50}));
  EXPECT_EQ(removed({.newest = 1, .every = 30}), (std::vector<int64_t>{10, 20, 40, 50, 70}));
  EXPECT_EQ(removed({.newest = 1, .best = 1}), (std::vector<int64_t>{10, 20, 30, 50, 60, 70}));
  EXPECT_EQ(removed({.newest = 1, .best = 2}), (std::vector<int64_t>{10, 30, 50, 60, 70}));
  EXPECT_EQ(removed({.newest = 20}), std::vector<int64_t>{});
  EXPECT_EQ(steps_to_remove({}, {}), std::vector<int64_t>{});
}

TEST(KeepRules, PruneWhatASaveLeavesBehind) {
  TemporaryDirectory run;
  Checkpoints checkpoints(run.path(), {.newest = 1, .every = 4, .best = 1});
  for (int64_t step = 1; step <= 7; ++step) {
    SmallRun saved(step);
    saved.state.scalars[kValidationLoss] = step == 3 ? 1.0 : 2.0;
    checkpoints.save(saved.state, saved.slices);
  }
  EXPECT_TRUE(checkpoints.wait());
  EXPECT_EQ(checkpoint_steps(run.path()), (std::vector<int64_t>{3, 4, 7}));
}

}  // namespace
}  // namespace toroid
