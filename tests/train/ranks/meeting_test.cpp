// Ranks that are threads meet, agree or part in one way.
#include "train/ranks/meeting.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/loop/runs.h"
#include "train/ranks/first_rank.h"
#include "train/ranks/ranks.h"

namespace toroid::train {
namespace {

// What each rank threw.
template <class Work>
std::string meet(int ranks, const Work& work) {
  LocalJob job(ranks, {});
  return testing::run_rank_threads(ranks, [&](int rank) {
    work(rank, Meeting(job.world(rank), std::make_shared<cpu::TransferThread>()));
  });
}

RunIdentity with(const std::string& name, const std::string& value) {
  RunIdentity out;
  out.add("first", "1");
  out.add(name, value);
  return out;
}

TEST(Meeting, EqualRanksGoOnWithTheirWorld) {
  EXPECT_EQ(meet(4,
                 [](int rank, Meeting ranks) {
                   ranks.settle_instructions();
                   ranks.agree(with("train.seed", "3"));
                   EXPECT_EQ(ranks.exchange(std::string(static_cast<size_t>(rank), 'x'), "t")[3], "xxx");
                   const Meeting::Parted parted = ranks.part();
                   ASSERT_NE(parted.world, nullptr);
                   EXPECT_EQ(parted.world->rank(), rank);
                   // The transfer thread serves the run's device as it served the meeting's.
                   const auto kernels = std::make_shared<KernelRegistry>();
                   CpuDevice device(kernels, parted.transfers);
                   const auto all = parted.world->group(device, Queue::pod, "all", {0, 1, 2, 3}, {1, 4}, {});
                   for (int i = 0; i < 20; ++i) {
                     const std::string text = std::to_string(100 * i + rank);
                     EXPECT_EQ(exchange(device, *all, text, "t")[2], std::to_string(100 * i + 2));
                   }
                 }),
            "");
}

TEST(Meeting, EveryRankHearsTheSameOfTheOneThatDiffers) {
  std::atomic<int> speaking{0};
  const std::string thrown = meet(4, [&](int rank, Meeting ranks) {
    try {
      ranks.agree(with("train.seed", rank == 2 ? "8" : "3"));
    } catch (const RanksDisagree& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      EXPECT_EQ(error.speaks(), rank == 0);
      speaking += error.speaks() ? 1 : 0;
      throw;
    }
  });
  EXPECT_EQ(speaking, 1);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_NE(
        thrown.find("rank " + std::to_string(rank) + ": rank 2 has train.seed 8 and rank 0 has 3; start"),
        std::string::npos)
        << thrown;
  }
}

TEST(Meeting, OneRankAgreesWithItself) {
  Meeting alone(make_single_world(), nullptr);
  alone.settle_instructions();
  alone.agree(with("a", "b"));
  EXPECT_EQ(alone.exchange("text", "t"), std::vector<std::string>{"text"});
}

TEST(Meeting, TheFirstRanksTraceGoesForAll) {
  EXPECT_EQ(meet(3,
                 [](int rank, Meeting ranks) {
                   TraceRequest mine{rank == 1 ? "" : "trace" + std::to_string(rank), {}};
                   mine.window.set_after(rank);
                   mine.window.set_steps(4);
                   const TraceRequest agreed = agreed_trace(ranks, mine);
                   EXPECT_EQ(agreed.file, "trace0");
                   EXPECT_EQ(agreed.window.after(), 0);
                   EXPECT_EQ(agreed.window.steps(), 4);
                 }),
            "");
}

class ResumeMeeting : public RunsTest {
 protected:
  static void SetUpTestSuite() {
    RunsTest::SetUpTestSuite();
    ASSERT_EQ(run(options("run", {"train.steps=4"})), ExitCode::done);
    ASSERT_EQ(run(options("other", {"train.steps=4", "train.seed=4"})), ExitCode::done);
    std::filesystem::copy(root_ / "run", root_ / "copy", std::filesystem::copy_options::recursive);
  }
  // What ranks throw that resume these.
  static std::string resume(const std::vector<std::string>& paths) {
    return meet(static_cast<int>(paths.size()), [&](int rank, Meeting ranks) {
      EXPECT_EQ(open_resumed(ranks, root_ / paths[static_cast<size_t>(rank)]).state().step, 4);
    });
  }
};

TEST_F(ResumeMeeting, OneStepFromWhereverARankHasIt) {
  EXPECT_EQ(resume({"run", "run"}), "");
  EXPECT_EQ(resume({"run", "copy", "run/checkpoints/step-4"}), "");
}

TEST_F(ResumeMeeting, AnotherStepOrRunIsRefusedOnAllRanks) {
  for (const char* other : {"other", "run/checkpoints/step-2", "other/checkpoints/step-4"}) {
    const std::string thrown = resume({"run", other, "copy"});
    EXPECT_NE(thrown.find("rank 0: rank 1 has checkpoint "), std::string::npos) << other << thrown;
    EXPECT_NE(thrown.find("rank 2: rank 1 has checkpoint "), std::string::npos) << other << thrown;
  }
}

TEST(FirstRank, FindsTheClaimedDirectoryAtItsOwnPathOrTheFirstRanks) {
  const Path root = std::filesystem::temp_directory_path() / ("toroid_claimed." + std::to_string(::getpid()));
  make_directories(root / "run");
  make_directories(root / "other");
  write_file(root / "run" / "config.textproto", "a");
  write_file(root / "other" / "config.textproto", "a");
  std::filesystem::create_directory_symlink(root / "run", root / "mount");
  const std::string described = describe_claimed(root / "run");
  EXPECT_EQ(find_claimed(root / "run", described), root / "run");
  EXPECT_EQ(find_claimed(root / "mount", described), root / "mount");
  EXPECT_EQ(find_claimed(root / "other", described), root / "run");
  EXPECT_EQ(find_claimed(root / "nowhere", described), root / "run");
  std::filesystem::rename(root / "run", root / "moved");
  EXPECT_THROW((void)find_claimed(root / "other", described), UserError);
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace toroid::train
