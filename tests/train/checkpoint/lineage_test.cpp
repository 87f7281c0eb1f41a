// Which steps are of one branch, which may be the newest, and steps that are set aside whatever stops it.
#include "train/checkpoint/lineage.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/checkpoint/fixture.h"
#include "train/checkpoint/aside.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;
using Steps = std::vector<int64_t>;

KnownStep first(int64_t step, const std::string& seal) {
  return {step, seal, std::nullopt};
}
KnownStep after(int64_t parent, const std::string& parents_seal, int64_t step, const std::string& seal) {
  return {step, seal, CheckpointId{parent, parents_seal}};
}

TEST(Lineage, ABranchIsWholeWhateverWasPrunedOfIt) {
  const std::vector<KnownStep> all{after(6, "f", 8, "h"), after(8, "h", 10, "j"), after(10, "j", 12, "l")};
  EXPECT_EQ(newest_first(all), (Steps{12, 10, 8}));
  EXPECT_EQ(outside_branch(all, 12), Steps{});
  EXPECT_EQ(outside_branch(all, 8), (Steps{10, 12}));
  // One in the middle, removed by hand.
  const std::vector<KnownStep> hole{after(6, "f", 8, "h"), after(10, "j", 12, "l")};
  EXPECT_EQ(newest_first(hole), (Steps{12, 8}));
  EXPECT_EQ(outside_branch(hole, 12), Steps{});
}

TEST(Lineage, StepsWithoutAParentFormAChain) {
  const std::vector<KnownStep> all{first(2, "b"), first(4, "d"), after(4, "d", 6, "f"), first(8, "h")};
  EXPECT_EQ(newest_first(all), (Steps{8, 6, 4, 2}));
  EXPECT_EQ(outside_branch(all, 8), Steps{});
  EXPECT_EQ(outside_branch(all, 4), (Steps{6, 8}));
}

TEST(Lineage, ALeftBranchIsNeverTheNewest) {
  // Back from 12 to 4, then step 6 anew.
  const std::vector<KnownStep> all{first(2, "b"),           after(2, "b", 4, "d"),  after(4, "d", 6, "new"),
                                   after(6, "old", 8, "h"), after(8, "h", 10, "j"), after(10, "j", 12, "l")};
  EXPECT_EQ(newest_first(all), (Steps{6, 4, 2}));
  EXPECT_EQ(outside_branch(all, 6), (Steps{8, 10, 12}));
  EXPECT_EQ(outside_branch(all, 12), Steps{6}) << "asked for by name, it is the branch";
  // Fewer saves than the branch that was left had, and more.
  const std::vector<KnownStep> between{first(4, "d"), after(4, "d", 6, "new"), after(4, "d", 8, "h")};
  EXPECT_EQ(newest_first(between), (Steps{6, 4}));
  EXPECT_EQ(outside_branch(between, 8), Steps{6});
}

TEST(Lineage, AStepThatCannotBeReadIsTakenForOneOfTheBranch) {
  const std::vector<KnownStep> all{first(2, "b"), {4, "", std::nullopt}, after(4, "d", 6, "f")};
  EXPECT_EQ(newest_first(all), (Steps{6, 4, 2}));
  const std::vector<KnownStep> damaged{first(2, "b"), after(2, "b", 4, "d"), {6, "", std::nullopt}};
  EXPECT_EQ(newest_first(damaged), (Steps{6, 4, 2})) << "it is named and passed over where it is loaded";
}

Manifest manifest(const Path& run, int64_t step) {
  return read_manifest(run / "checkpoints" / step_name(step));
}

void save(Checkpoints& checkpoints, int64_t step) {
  const SmallRun saved(step);
  checkpoints.save(saved.state, saved.slices);
}

TEST(Lineage, EachSaveNamesTheOneBefore) {
  const TemporaryDirectory directory;
  const std::string run = new_run_id();
  EXPECT_EQ(run.size(), 32U);
  EXPECT_NE(run, new_run_id());
  {
    Checkpoints checkpoints(directory.path(), {.newest = 5}, {run, std::nullopt});
    for (const int64_t step : {2, 4}) save(checkpoints, step);
  }
  const CheckpointId two{2, manifest(directory.path(), 2).seal}, four{4, manifest(directory.path(), 4).seal};
  {
    Checkpoints checkpoints(directory.path(), {.newest = 5}, {run, two});
    save(checkpoints, 3);
  }
  EXPECT_EQ(manifest(directory.path(), 2).state.lineage.parent, std::nullopt);
  EXPECT_EQ(manifest(directory.path(), 4).state.lineage.parent, two);
  EXPECT_EQ(manifest(directory.path(), 3).state.lineage.parent, two);
  for (const int64_t step : {2, 3, 4}) EXPECT_EQ(manifest(directory.path(), step).state.lineage.run, run);
  EXPECT_EQ(CheckpointReader(directory / "checkpoints/step-4").id(), four);
  EXPECT_EQ(CheckpointReader(directory.path()).state().step, 3) << "step 4 is of the branch that was left";
}

TEST(Lineage, OlderManifestsHaveNeitherRunNorParent) {
  const TemporaryDirectory directory;
  const SmallRun saved(5);
  save_checkpoint(directory.path(), saved.state, saved.slices, 1);
  const std::string text = read_file(directory / "checkpoints/step-5/manifest.json", 1 << 20);
  EXPECT_EQ(text.find("\"parent\""), std::string::npos);
  EXPECT_EQ(manifest(directory.path(), 5).state.lineage.run, "");
}

// A job that has lost the directory to another one.
TEST(Checkpoints, WhoMayNotWriteChangesNothing) {
  const TemporaryDirectory directory;
  bool mine = true;
  Checkpoints checkpoints(directory.path(), {.newest = 1}, {}, [&] {
    if (!mine) throw SystemError("taken over");
  });
  save(checkpoints, 1);
  ASSERT_TRUE(checkpoints.wait());
  fs::create_directory(directory / "checkpoints/.saving-step-2");  // the other's
  mine = false;
  EXPECT_THROW(save(checkpoints, 2), SystemError);
  EXPECT_TRUE(fs::exists(directory / "checkpoints/.saving-step-2"));
  EXPECT_EQ(checkpoint_steps(directory.path()), Steps{1});
}

// Folders named like steps, each with a file that says which it is.
void make_steps(const Path& checkpoints, const Steps& steps) {
  for (const int64_t step : steps) {
    fs::create_directories(checkpoints / step_name(step));
    std::ofstream(checkpoints / step_name(step) / "which") << step;
  }
}

const MoveRest kNothing = [](const Path&, int64_t) {};

TEST(Aside, TakesTheSmallestFreeNumber) {
  const TemporaryDirectory directory;
  make_steps(directory.path(), {2, 4, 6});
  const Steps six{6}, four{4};
  EXPECT_EQ(set_aside(directory.path(), 4, six, kNothing).directory, directory / "aside-0");
  make_steps(directory.path(), {6});
  EXPECT_EQ(find_aside(directory / "step-6"), directory / "aside-0" / "step-6");
  EXPECT_EQ(set_aside(directory.path(), 4, six, kNothing).directory, directory / "aside-1");
  fs::remove_all(directory / "aside-0");
  EXPECT_EQ(set_aside(directory.path(), 2, four, kNothing).directory, directory / "aside-0");
  EXPECT_EQ(steps_of_run(directory.path()), Steps{2});
  EXPECT_EQ(find_aside(directory / "step-2"), std::nullopt);
  EXPECT_TRUE(is_aside(directory / "aside-0"));
  for (const char* other : {"aside-", "aside-x", "aside-01", "aside--1", "step-1"}) {
    EXPECT_FALSE(is_aside(directory / other)) << other;
  }
}

TEST(Aside, WhatAStopLeavesDoesNotCountAndIsFinished) {
  const TemporaryDirectory directory;
  make_steps(directory.path(), {2, 4, 6, 8});
  const Steps later{4, 6, 8};
  EXPECT_THROW((void)set_aside(directory.path(), 2, later,
                               [](const Path&, int64_t) { throw SystemError("the disk is full"); }),
               SystemError);
  make_steps(directory.path(), {4});  // as where the stop came before this one was moved
  fs::remove_all(directory / ".aside-0/step-4");
  EXPECT_EQ(steps_of_run(directory.path()), Steps{2});
  int64_t back_to = -1;
  const auto done = finish_asides(directory.path(), [&](const Path&, int64_t step) { back_to = step; });
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(back_to, 2);
  EXPECT_EQ(steps_in(directory.path()), Steps{2});
  EXPECT_EQ(steps_in(directory / "aside-0"), later);
  EXPECT_TRUE(finish_asides(directory.path(), kNothing).empty());
}

TEST(Aside, ARecordThatIsNotWholeMovesNothing) {
  for (const char* text : {"", "{", "[]", R"({"back_to":-1,"steps":[4]})", R"({"back_to":2})"}) {
    const TemporaryDirectory directory;
    make_steps(directory.path(), {2, 4});
    fs::create_directory(directory / ".aside-0");
    std::ofstream(directory / ".aside-0/aside.json") << text;
    EXPECT_EQ(steps_of_run(directory.path()), (Steps{2, 4})) << text;
    EXPECT_TRUE(finish_asides(directory.path(), kNothing).empty());
    EXPECT_FALSE(fs::exists(directory / ".aside-0"));
    // And where it was damaged later, no step is lost.
    make_steps(directory / ".aside-0", {6});
    std::ofstream(directory / ".aside-0/aside.json") << text;
    EXPECT_EQ(finish_asides(directory.path(), kNothing).size(), 1U);
    EXPECT_EQ(steps_in(directory / "aside-0"), Steps{6});
    EXPECT_EQ(steps_of_run(directory.path()), (Steps{2, 4}));
  }
}

TEST(Aside, BelongsToItsRun) {
  EXPECT_EQ(run_of_checkpoint("/runs/a/checkpoints/aside-0/step-8"), "/runs/a");
  EXPECT_EQ(run_of_checkpoint("/runs/a/checkpoints/step-8/"), "/runs/a");
  EXPECT_EQ(run_of_checkpoint("runs/a/checkpoints/step-8"), "runs/a");
  EXPECT_EQ(run_of_checkpoint("/elsewhere/step-8"), "/elsewhere/step-8");
  for (const char* relative : {"checkpoints", "checkpoints/step-8", "checkpoints/aside-0/step-8"}) {
    EXPECT_EQ(run_of_checkpoint(relative), fs::current_path()) << relative;
  }
}

}  // namespace
}  // namespace toroid
