// Saves of a run that trains: resumed at each of its steps whichever way they were saved; a disk that fills
// up and one that turns read-only under it; what is kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "tests/core/base/io/small_disk.h"
#include "tests/train/loop/runs.h"

namespace toroid::train {
namespace {

class SavesTest : public RunsTest {
 protected:
  static TrainOptions options(const std::string& out, std::vector<std::string> overrides) {
    overrides.emplace_back("train.threads=1");  // so small a model gains nothing from more
    return RunsTest::options(out, overrides);
  }
};

TEST_F(SavesTest, ResumedAtEveryStepTheLossesAreExactlyTheSame) {
  for (const std::string how : {"false", "true"}) {
    const std::vector<std::string> config{"train.checkpoint.every=1", "train.checkpoint.keep=20",
                                          "train.checkpoint.async=" + how};
    const std::string whole = "whole_" + how;
    ASSERT_EQ(run(options(whole, config)), ExitCode::done);
    for (int step = 1; step < 8; ++step) {
      const std::string name = whole + std::to_string(step);
      TrainOptions rest = options(name, config);
      rest.resume = root_ / whole / "checkpoints" / ("step-" + std::to_string(step));
      ASSERT_EQ(run(rest), ExitCode::done);
      EXPECT_EQ(hashes(name), hashes(whole)) << how << " " << step;
      const std::string all = metrics(whole), part = metrics(name);
      EXPECT_FALSE(part.empty());
      EXPECT_TRUE(all.ends_with(part)) << how << " " << step << ":\n" << part << "\nof\n" << all;
    }
  }
}

int64_t rows(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST_F(SavesTest, ADiskThatFillsUpStopsNoTraining) {
  for (const std::string how : {"false", "true"}) {
    const std::string name = "disk_" + how;
    // A checkpoint has about 700 kB: two fit, and rows of metrics, but not three.
    const SmallDisk disk(root_ / name, "size=1800k");
    if (!disk.mounted()) GTEST_SKIP() << "no right to mount";
    const TrainOptions full =
        options(name + "/run", {"train.checkpoint.every=2", "train.checkpoint.keep=20",
                                "train.checkpoint.async=" + how, "train.checkpoint.async_share=0.1"});
    try {
      (void)run(full);
      ADD_FAILURE() << "the last save found room";
    } catch (const SystemError& error) {  // of the last save: exit code 3
      EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
    }
    EXPECT_EQ(checkpoint_steps(full.out), (std::vector<int64_t>{2, 4})) << how;
    EXPECT_EQ(CheckpointReader(full.out).state().step, 4);
    EXPECT_GE(rows(metrics(name + "/run")), 8) << "the run stopped before its last step";
    for (const Path& entry : list_directory(full.out / "checkpoints"))
      EXPECT_FALSE(entry.filename().string().starts_with(".")) << entry;
  }
}

TEST_F(SavesTest, OrStopsItWhereTheConfigSaysSo) {
  const SmallDisk disk(root_ / "strict", "size=1800k");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount";
  for (const std::string how : {"false", "true"}) {
    TrainOptions full = options("strict/run", {"train.checkpoint.every=2", "train.checkpoint.keep=20",
                                               "train.checkpoint.async=" + how,
                                               "train.checkpoint.on_failure=STOP", "train.steps=100"});
    full.again = true;
    EXPECT_THROW((void)run(full), SystemError);
    EXPECT_LT(rows(metrics("strict/run")), 20);
  }
}

TEST_F(SavesTest, KeepsTheBestAndThoseForGood) {
  ASSERT_EQ(run(options("kept", {"train.checkpoint.every=1", "train.checkpoint.keep=1",
                                 "train.checkpoint.keep_every=3", "train.checkpoint.keep_best=1",
                                 "train.validate.every=1"})),
            ExitCode::done);
  const std::vector<int64_t> steps = checkpoint_steps(root_ / "kept");
  double best = 1e9;
  int64_t best_step = 0;
  for (const int64_t step : steps) {
    const CheckpointReader reader(root_ / "kept/checkpoints" / ("step-" + std::to_string(step)));
    const double loss = reader.state().scalars.at(kValidationLoss);
    if (loss <= best) best = loss, best_step = step;
  }
  EXPECT_EQ(std::set<int64_t>(steps.begin(), steps.end()), (std::set<int64_t>{3, 6, 8, best_step}));
}

}  // namespace
}  // namespace toroid::train
