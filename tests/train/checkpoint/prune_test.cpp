// What a run's checkpoints are listed as, and which of them go.
#include "train/checkpoint/prune.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/checkpoint/fixture.h"
#include "train/checkpoint/aside.h"
#include "train/checkpoint/inventory.h"
#include "train/checkpoint/keep.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

class PrunedRun : public ::testing::Test {
 protected:
  void SetUp() override {
    Checkpoints checkpoints(run_.path(), {.newest = 100}, {new_run_id(), {}});
    for (const int64_t step : {2, 4, 6, 8, 10}) {
      SmallRun saved(step);
      if (step != 10)
        saved.state.scalars[kValidationLoss] = 5.0 + static_cast<double>((step - 6) * (step - 6));
      checkpoints.save(saved.state, saved.slices);
    }
    EXPECT_TRUE(checkpoints.wait());
  }
  Path step(int64_t number) const { return run_ / "checkpoints" / ("step-" + std::to_string(number)); }
  void damage(int64_t number) const {
    const Path file = step(number) / "ema-00000-of-00001.safetensors";
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<int64_t>(fs::file_size(file)) - 3);
    bytes.put('x');
  }
  int64_t bytes_of(int64_t number) const {
    int64_t bytes = 0;
    for (const auto& file : fs::directory_iterator(step(number)))
      bytes += static_cast<int64_t>(file.file_size());
    return bytes;
  }
  std::vector<int64_t> left() const { return checkpoint_steps(run_.path()); }
  TemporaryDirectory run_;
};

TEST_F(PrunedRun, OlderStepsGo) {
  const PrunePlan plan = plan_prune(run_.path(), {.keep = 2, .every = 4});
  EXPECT_EQ(plan.keep, (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(plan.remove, (std::vector<int64_t>{2, 6}));
  EXPECT_EQ(plan.bytes_freed, bytes_of(2) + bytes_of(6));
  EXPECT_EQ(plan.bytes_kept, bytes_of(4) + bytes_of(8) + bytes_of(10));
  EXPECT_EQ(left().size(), 5u);
  int asked = 0;
  EXPECT_EQ(prune(plan, [&] { ++asked; }), 2);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(left(), (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(std::distance(fs::directory_iterator(run_ / "checkpoints"), fs::directory_iterator()), 3);
  EXPECT_EQ(CheckpointReader(run_.path()).state().step, 10);
  EXPECT_TRUE(plan_prune(run_.path(), {.keep = 3}).remove.empty());
}

TEST_F(PrunedRun, DamagedStepsAreNotCounted) {
  damage(10);
  const PrunePlan plan = plan_prune(run_.path(), {.keep = 2});
  EXPECT_EQ(plan.keep, (std::vector<int64_t>{6, 8}));
  EXPECT_EQ(plan.remove, (std::vector<int64_t>{2, 4}));
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_NE(plan.notes[0].find("step-10 is damaged, is not counted and stays"), std::string::npos);
  damage(4);
  EXPECT_THROW(plan_prune(run_.path(), {.keep = 1, .every = 4}), UserError);
}

TEST_F(PrunedRun, TheBestStay) {
  EXPECT_EQ(plan_prune(run_.path(), {.keep = 1, .best = 1}).keep, (std::vector<int64_t>{6, 10}));
  // Of 4 and 8, which are as good, the newer.
  const PrunePlan plan = plan_prune(run_.path(), {.keep = 1, .best = 2});
  EXPECT_EQ(plan.keep, (std::vector<int64_t>{6, 8, 10}));
  EXPECT_EQ(plan.remove, (std::vector<int64_t>{2, 4}));
  EXPECT_TRUE(plan_prune(run_.path(), {.keep = 1, .best = 100}).remove.empty());
  damage(6);
  EXPECT_THROW(plan_prune(run_.path(), {.keep = 1, .best = 1}), UserError);
  EXPECT_THROW(plan_prune(run_.path(), {.keep = 1, .best = -1}), UserError);
}

TEST_F(PrunedRun, TheLastWholeOneStays) {
  for (const int64_t number : {4, 6, 8, 10}) damage(number);
  EXPECT_EQ(plan_prune(run_.path(), {.keep = 1}).keep, std::vector<int64_t>{2});
  EXPECT_TRUE(plan_prune(run_.path(), {.keep = 1}).remove.empty());
  damage(2);
  EXPECT_THROW(plan_prune(run_.path(), {.keep = 1}), UserError);
  EXPECT_THROW(plan_prune(run_.path(), {.keep = 0}), UserError);
  EXPECT_THROW(plan_prune(step(2), {.keep = 1}), UserError);
  EXPECT_EQ(left().size(), 5u);
}

TEST_F(PrunedRun, ALostDirectoryStopsIt) {
  const PrunePlan plan = plan_prune(run_.path(), {.keep = 1});
  int asked = 0;
  EXPECT_THROW(prune(plan,
                     [&] {
                       if (++asked == 2) throw SystemError("taken over");
                     }),
               SystemError);
  EXPECT_EQ(left(), (std::vector<int64_t>{4, 6, 8, 10}));
}

TEST_F(PrunedRun, OtherBranchesAreListedAndStay) {
  const std::vector<int64_t> aside = {10};
  set_aside(run_ / "checkpoints", 8, aside, [](const Path&, int64_t) {});
  {  // what else was saved from step 4: 6 is none of its ancestors, so that it cannot be newer than 8
    Checkpoints checkpoints(run_.path(), {.newest = 100}, {new_run_id(), CheckpointReader(step(4)).id()});
    const SmallRun saved(9);
    checkpoints.save(saved.state, saved.slices);
  }
  fs::create_directory(run_ / "checkpoints/.saving-step-12");
  const Inventory inventory = list_run(run_.path(), {.depth = Depth::lengths});
  std::string text;
  for (const ListedStep& one : inventory.steps) {
    text += one.aside + " " + std::to_string(one.step) + " " + std::to_string(static_cast<int>(one.branch)) +
            "\n";
    EXPECT_TRUE(one.check.whole());
    EXPECT_GT(one.saved, 0);
  }
  EXPECT_EQ(inventory.unfinished, std::vector<std::string>{".saving-step-12"});
  EXPECT_EQ(text, "aside-0 10 2\n 2 0\n 4 0\n 6 0\n 8 0\n 9 1\n");
  const PrunePlan plan = plan_prune(run_.path(), {.keep = 1});
  EXPECT_EQ(plan.keep, std::vector<int64_t>{8});
  EXPECT_EQ(plan.remove, (std::vector<int64_t>{2, 4, 6}));
  prune(plan, [] {});
  EXPECT_TRUE(fs::exists(run_ / "checkpoints/aside-0/step-10"));
  EXPECT_EQ(left(), (std::vector<int64_t>{8, 9}));
}

TEST_F(PrunedRun, ANameStandsForItsNewestWholeStep) {
  EXPECT_EQ(newest_step(run_.path()), step(10));
  EXPECT_EQ(newest_step(run_ / "checkpoints"), step(10));
  EXPECT_EQ(newest_step(step(4)), step(4));
  fs::remove(step(10) / "ema-00000-of-00001.safetensors");
  EXPECT_EQ(newest_step(run_.path()), step(8));
  TemporaryDirectory empty;
  EXPECT_THROW(newest_step(empty.path()), UserError);
  EXPECT_THROW(list_run(empty.path(), {}), UserError);
}

}  // namespace
}  // namespace toroid
