// A run that goes back: later steps and their rows are set aside, killed at whatever call, and the run's path
// means the branch that was trained last. And a run directory has one owner.
#include "train/loop/run_directory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "core/base/error.h"
#include "tests/core/base/io/file_calls.h"
#include "tests/deadline.h"
#include "tests/failure.h"
#include "tests/train/loop/runs.h"
#include "train/checkpoint/lineage.h"
#include "train/checkpoint/manifest.h"

namespace toroid::train {
namespace {

namespace fs = std::filesystem;
using testing::failure_of;
using Steps = std::vector<int64_t>;
class RunDirectoryTest : public RunsTest {
 protected:
  static TrainOptions options(const std::string& out, std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.end(), {"train.threads=1", "train.validate.every=0"});
    return RunsTest::options(out, overrides);
  }
};

// The steps that the rows of a metrics.jsonl are of, validations left out.
Steps rows(const Path& file) {
  Steps steps;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find("{\"step\":");
    if (at == 0 && line.find("\"loss\":") != std::string::npos) steps.push_back(std::stoll(line.substr(8)));
  }
  return steps;
}

Steps counted(int64_t from, int64_t to) {
  Steps steps;
  for (int64_t step = from; step <= to; ++step) steps.push_back(step);
  return steps;
}

Path step_path(const Path& run, int64_t step) {
  return run / "checkpoints" / ("step-" + std::to_string(step));
}

// All of a directory, as text: to see that nothing in it changed.
std::string contents(const Path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    std::string& bytes = files[entry.path().string()];
    if (entry.is_regular_file()) bytes = read_file(entry.path(), 1 << 28);
  }
  std::string all;
  for (const auto& [path, bytes] : files) all += path + "\n" + bytes + "\n";
  return all;
}

TrainOptions on(TrainOptions options, const Path& resume) {
  options.resume = resume;
  options.allow_changes = true;  // the number of steps decides the rate
  return options;
}

TEST_F(RunDirectoryTest, GoingBackSetsLaterStepsAside) {
  const Path run_path = root_ / "back";
  ASSERT_EQ(run(options("back")), ExitCode::done);  // 2, 4, 6, 8
  const std::string id = read_manifest(step_path(run_path, 8)).state.lineage.run;
  const auto resume_at = [&](int64_t step, int64_t steps) {
    TrainOptions rest = options("back", {"train.steps=" + std::to_string(steps), "optim.adamw.beta2=0.9"});
    rest.out.clear();  // the run's own
    rest.allow_changes = true;
    rest.resume = step < 0 ? run_path : step_path(run_path, step);
    return run(rest);
  };
  ASSERT_EQ(resume_at(4, 6), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), (Steps{2, 4, 6}));
  EXPECT_EQ(checkpoint_steps(run_path / "checkpoints" / "aside-0"), Steps{});
  EXPECT_EQ(steps_in(run_path / "checkpoints" / "aside-0"), (Steps{6, 8}));
  EXPECT_EQ(rows(run_path / "metrics.jsonl"), counted(1, 6));
  EXPECT_EQ(rows(run_path / "checkpoints/aside-0/metrics.jsonl"), counted(5, 8));

  ASSERT_EQ(resume_at(-1, 10), ExitCode::done);
  EXPECT_EQ(rows(run_path / "metrics.jsonl"), counted(1, 10));
  const auto lineage = [&](int64_t step) { return read_manifest(step_path(run_path, step)).state.lineage; };
  const auto id_of = [&](int64_t step) {
    return CheckpointId{step, read_manifest(step_path(run_path, step)).seal};
  };
  EXPECT_EQ(lineage(6).parent, id_of(4));
  EXPECT_EQ(lineage(8).parent, id_of(6));
  EXPECT_EQ(lineage(10).parent, id_of(8));
  for (const int64_t step : {2, 4, 6, 8, 10}) EXPECT_EQ(lineage(step).run, id) << step;

  // A second time, to where nothing is trained: the run's path means that step all the same.
  ASSERT_EQ(resume_at(2, 2), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), Steps{2});
  EXPECT_EQ(steps_in(run_path / "checkpoints" / "aside-1"), (Steps{4, 6, 8, 10}));
  EXPECT_EQ(rows(run_path / "metrics.jsonl"), counted(1, 2));

  // The run has its steps: nothing is moved.
  ASSERT_EQ(resume_at(-1, 1), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), Steps{2});
  EXPECT_FALSE(fs::exists(run_path / "checkpoints" / "aside-2"));
}

TEST_F(RunDirectoryTest, FewerStepsThanThereAreMovesNothing) {
  ASSERT_EQ(run(options("enough")), ExitCode::done);
  EXPECT_EQ(run(on(options("enough", {"train.steps=5"}), root_ / "enough")), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(root_ / "enough"), (Steps{2, 4, 6, 8}));
  EXPECT_EQ(rows(root_ / "enough/metrics.jsonl"), counted(1, 8));
  EXPECT_FALSE(fs::exists(root_ / "enough/checkpoints/aside-0"));
}

TEST_F(RunDirectoryTest, GoingBackWhereOneStepIsKept) {
  const Path run_path = root_ / "one";
  ASSERT_EQ(run(options("one")), ExitCode::done);
  ASSERT_EQ(run(on(options("one", {"train.steps=6", "train.checkpoint.keep=1"}), step_path(run_path, 2))),
            ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), Steps{6}) << "the new branch's";
  EXPECT_EQ(steps_in(run_path / "checkpoints/aside-0"), (Steps{4, 6, 8})) << "not counted, not pruned";
  EXPECT_EQ(CheckpointReader(run_path).state().step, 6);
}

TEST_F(RunDirectoryTest, AnotherOutTouchesNothing) {
  ASSERT_EQ(run(options("source")), ExitCode::done);
  const std::string before = contents(root_ / "source");
  const Manifest four = read_manifest(step_path(root_ / "source", 4));
  ASSERT_EQ(run(on(options("branch"), step_path(root_ / "source", 4))), ExitCode::done);
  EXPECT_EQ(contents(root_ / "source"), before);
  const Lineage lineage = read_manifest(step_path(root_ / "branch", 6)).state.lineage;
  EXPECT_EQ(lineage.parent, (CheckpointId{4, four.seal}));
  EXPECT_NE(lineage.run, four.state.lineage.run);
  EXPECT_EQ(rows(root_ / "branch/metrics.jsonl"), counted(5, 8));
  // Once more, it would mix two runs.
  const std::string why =
      failure_of<UserError>([&] { run(on(options("branch"), step_path(root_ / "source", 4))); });
  EXPECT_NE(why.find("already holds a run, and not the one that --resume names"), std::string::npos) << why;
}

TEST_F(RunDirectoryTest, WhatWasSetAsideGoesOnElsewhereOnly) {
  ASSERT_EQ(run(options("left")), ExitCode::done);
  ASSERT_EQ(run(on(options("left", {"train.steps=5"}), step_path(root_ / "left", 4))), ExitCode::done);
  const Path aside = root_ / "left/checkpoints/aside-0/step-6";
  TrainOptions same = on(options("left"), aside);
  same.out.clear();
  std::string why = failure_of<UserError>([&] { run(same); });
  EXPECT_NE(why.find("was set aside when its run went back"), std::string::npos) << why;
  EXPECT_NE(failure_of<UserError>([&] { run(on(options("left"), aside)); }), "accepted");
  why = failure_of<UserError>([&] { run(on(options("left"), step_path(root_ / "left", 8))); });
  EXPECT_NE(why.find("aside-0/step-8"), std::string::npos) << why;
  EXPECT_EQ(run(on(options("elsewhere"), aside)), ExitCode::done);
  EXPECT_EQ(rows(root_ / "elsewhere/metrics.jsonl"), counted(7, 8));
}

TEST_F(RunDirectoryTest, ACheckpointThatLiesInNoRunNeedsAnOut) {
  ASSERT_EQ(run(options("copied")), ExitCode::done);
  fs::copy(step_path(root_ / "copied", 8), root_ / "step-8");
  TrainOptions rest = on(options("x", {"train.steps=9"}), root_ / "step-8");
  rest.out.clear();
  EXPECT_NE(failure_of<UserError>([&] { run(rest); }).find("--out"), std::string::npos);
  EXPECT_FALSE(fs::exists(root_ / "step-8/metrics.jsonl"));
  rest.out = root_ / "from_copy";
  EXPECT_EQ(run(rest), ExitCode::done);
}

TEST_F(RunDirectoryTest, ADamagedNewestStepDoesNotComeBack) {
  const Path run_path = root_ / "damaged";
  ASSERT_EQ(run(options("damaged")), ExitCode::done);
  fs::resize_file(step_path(run_path, 8) / "master-00000-of-00001.safetensors", 100);
  ASSERT_EQ(run(on(options("damaged", {"train.steps=7"}), run_path)), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), (Steps{2, 4, 6, 7}));
  EXPECT_EQ(steps_in(run_path / "checkpoints/aside-0"), Steps{8});
  EXPECT_EQ(rows(run_path / "checkpoints/aside-0/metrics.jsonl"), (Steps{7, 8}));
}

// What a program that knew nothing of branches has left.
TEST_F(RunDirectoryTest, ALeftBranchBesideTheNewOneIsSetAside) {
  const Path run_path = root_ / "mixed";
  ASSERT_EQ(run(options("mixed")), ExitCode::done);
  ASSERT_EQ(run(on(options("mixed", {"train.steps=5", "train.checkpoint.every=5"}), step_path(run_path, 4))),
            ExitCode::done);
  for (const int64_t step : {6, 8}) {
    fs::rename(run_path / "checkpoints/aside-0" / ("step-" + std::to_string(step)),
               step_path(run_path, step));
  }
  fs::remove_all(run_path / "checkpoints/aside-0");
  EXPECT_EQ(CheckpointReader(run_path).state().step, 5);
  ASSERT_EQ(run(on(options("mixed", {"train.steps=7"}), run_path)), ExitCode::done);
  EXPECT_EQ(checkpoint_steps(run_path), (Steps{2, 4, 5, 6, 7}));
  EXPECT_EQ(steps_in(run_path / "checkpoints/aside-0"), (Steps{6, 8}));
}

TEST_F(RunDirectoryTest, KilledAnywhereTheNextStartFinishesGoingBack) {
  ASSERT_EQ(run(options("whole")), ExitCode::done);
  int deaths = 0;
  for (bool died = true; died;) {
    const Path run_path = root_ / "killed";
    fs::remove_all(run_path);
    fs::copy(root_ / "whole", run_path, fs::copy_options::recursive);
    const int status = test::killed_at(
        deaths + 1, [&] { RunDirectory(run_path, false, step_path(run_path, 4)).begin(4, "config"); });
    died = WIFSIGNALED(status);
    ASSERT_TRUE(died || WEXITSTATUS(status) == 0);
    const std::string what = "killed at call " + std::to_string(deaths + 1);
    // A reader's view: as before, or back at 4.
    const Steps before = checkpoint_steps(run_path);
    const bool went_back = before == Steps{2, 4};
    EXPECT_TRUE(went_back || before == (Steps{2, 4, 6, 8})) << what;
    EXPECT_EQ(CheckpointReader(run_path).state().step, went_back ? 4 : 8) << what;
    RunDirectory(run_path, false, run_path).begin(went_back ? 4 : 8, "config");
    EXPECT_EQ(checkpoint_steps(run_path), before) << what;
    EXPECT_EQ(rows(run_path / "metrics.jsonl"), counted(1, went_back ? 4 : 8)) << what;
    const Path aside = run_path / "checkpoints/aside-0";
    EXPECT_EQ(fs::exists(aside), went_back) << what;
    if (went_back) {
      EXPECT_EQ(steps_in(aside), (Steps{6, 8})) << what;
      EXPECT_EQ(rows(aside / "metrics.jsonl"), counted(5, 8)) << what;
    }
    for (const auto& entry : fs::directory_iterator(run_path / "checkpoints")) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path() << " " << what;
    }
    deaths += died ? 1 : 0;
  }
  EXPECT_GT(deaths, 10);
}

TEST_F(RunDirectoryTest, ARunThatIsInUseIsLeftAlone) {
  ASSERT_EQ(run(options("used")), ExitCode::done);
  TrainOptions again = options("used"), fresh = options("fresh_used");
  again.again = true;
  const RunDirectory owner(root_ / "used", false, root_ / "used"), other(root_ / "fresh_used", false, {});
  const std::string before = contents(root_ / "used");
  const std::vector<TrainOptions> refused = {options("used"), again, on(options("used"), root_ / "used"),
                                             on(options("used"), step_path(root_ / "used", 2)), fresh};
  for (const TrainOptions& one : refused) {
    const std::string why = failure_of<UserError>([&] { run(one); });
    EXPECT_NE(why.find("is in use by process " + std::to_string(::getpid()) + " on host "), std::string::npos)
        << why;
  }
  EXPECT_EQ(contents(root_ / "used"), before);
  // Who only reads is not kept out.
  EXPECT_EQ(CheckpointReader(root_ / "used").state().step, 8);
  EXPECT_EQ(run(on(options("reads_used"), step_path(root_ / "used", 2))), ExitCode::done);
}

TEST_F(RunDirectoryTest, IsGivenBackHoweverTheRunEnds) {
  ASSERT_EQ(run(options("ended")), ExitCode::done);
  EXPECT_FALSE(fs::exists(root_ / "ended/.lock"));
  TrainOptions changed = on(options("ended", {"optim.adamw.beta2=0.9", "train.steps=9"}), root_ / "ended");
  changed.allow_changes = false;
  EXPECT_THROW((void)run(changed), UserError);
  EXPECT_FALSE(fs::exists(root_ / "ended/.lock"));
  changed.out = root_ / "never";
  EXPECT_THROW((void)run(changed), UserError);
  EXPECT_FALSE(fs::exists(root_ / "never")) << "nothing was written there";
}

TEST_F(RunDirectoryTest, ARunThatLostItsDirectoryEndsAndWritesNoCheckpoint) {
  const Path run_path = root_ / "lost";
  const TrainOptions endless = options("lost", {"train.steps=1000000", "train.validate.every=0",
                                                "train.checkpoint.every=1", "train.checkpoint.keep=2"});
  std::thread thief([&] {
    EXPECT_TRUE(toroid::testing::comes_true([&] { return !checkpoint_steps(run_path).empty(); }))
        << "the run saved nothing";
    write_file(run_path / "taken", R"({"format":"toroid lock","host":"elsewhere","boot":"","processes":"",)"
                                   R"("process":99,"start":1,"job":"","token":""})");
    fs::rename(run_path / "taken", run_path / ".lock");
  });
  const std::string why = failure_of<SystemError>([&] { run(endless); });
  thief.join();
  EXPECT_NE(why.find("was taken over by process 99 on host elsewhere"), std::string::npos) << why;
  EXPECT_TRUE(fs::exists(run_path / ".lock")) << "it is the other's";
}

}  // namespace
}  // namespace toroid::train
