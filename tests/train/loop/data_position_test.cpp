// Where a run stands in its data: over resumes under other batches, with ranges left out, from older
// checkpoints.
#include "train/loop/data_position.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/train/config/recipe_text.h"
#include "tests/train/loop/runs.h"

namespace toroid::train {
namespace {

using test::refusal;
using Ranges = std::vector<SkipList::Range>;

// A checkpoint as a run leaves it that takes 4 sequences of 16 tokens a step.
struct Saved {
  config::RunConfig run = config::load_text(test::recipe_text(), "recipe").run;
  CheckpointState state;
  DataPosition resumed(const Ranges& wanted = {}) const {
    return resumed_position(state, run, SkipList(wanted), "step-9");
  }
};

TEST(DataPosition, ComesBackAsItWasRecorded) {
  DataPosition position;
  position.skips = SkipList(Ranges{{5, 8}, {11, 20}});
  position.take(6, 16);
  position.take(2, 32);
  Saved saved;
  const auto source = synthetic_batches({16, 96, 1, 0});
  record(position, *source, saved.state);
  EXPECT_EQ(saved.state.next_sequence, 20) << "8 were taken: 0 to 4 and 8 to 10";
  EXPECT_EQ(saved.state.skipped, (std::vector<SequenceRange>{{5, 8}, {11, 20}}));
  const DataPosition again = saved.resumed();
  EXPECT_EQ(again.sequences, 8);
  EXPECT_EQ(again.tokens, 160);
  EXPECT_EQ(again.skips.ranges(), position.skips.ranges());
  EXPECT_TRUE(same_sequences(saved.state, saved.run, *source));
  EXPECT_FALSE(same_sequences(saved.state, saved.run, *synthetic_batches({16, 96, 2, 0})));
}

TEST(DataPosition, ARangeIsAddedAheadAndRefusedBehind) {
  Saved saved;
  saved.state.next_sequence = 20;
  saved.state.skipped = {{5, 8}, {30, 34}};
  EXPECT_EQ(saved.resumed({{20, 22}}).next_index(), 22);
  EXPECT_EQ(saved.resumed({{20, 22}}).sequences, 17);
  EXPECT_EQ(saved.resumed({{5, 8}, {6, 7}}).next_index(), 20) << "recorded";
  EXPECT_EQ(saved.resumed({{32, 40}}).skips.ranges(), (Ranges{{5, 8}, {30, 40}}));
  for (const SkipList::Range& behind : Ranges{{19, 22}, {0, 1}, {5, 9}, {4, 8}}) {
    const std::string why = refusal([&] { (void)saved.resumed({behind}); });
    EXPECT_NE(why.find("step-9 has been trained on all sequences before 20"), std::string::npos) << why;
  }
}

TEST(DataPosition, OlderCheckpointsCountedSteps) {
  Saved saved;
  saved.state.step = 9;
  saved.state.next_sequence = 36;
  const DataPosition position = saved.resumed();
  EXPECT_EQ(position.sequences, 36);
  EXPECT_EQ(position.tokens, 9 * 4 * 16);
  const auto source = synthetic_batches({16, 96, 1, 0});
  EXPECT_TRUE(same_sequences(saved.state, saved.run, *source)) << "it does not say";
  saved.state.texts["data_fingerprint"] = std::to_string(source->fingerprint_with_batch(4));
  EXPECT_TRUE(same_sequences(saved.state, saved.run, *source));
  saved.state.texts["data_fingerprint"] = std::to_string(source->fingerprint_with_batch(8));
  EXPECT_FALSE(same_sequences(saved.state, saved.run, *source));
}

TEST(DataPosition, NumbersThatNoRunWritesAreRefused) {
  Saved saved;
  saved.state.next_sequence = 2 * SkipList::kMostIndex + 1;
  EXPECT_NE(refusal([&] { (void)saved.resumed(); }), "");
  saved.state.next_sequence = 0;
  for (const int64_t tokens : {int64_t{-1}, SkipList::kMostIndex + 1}) {
    saved.state.counters["tokens"] = tokens;
    EXPECT_NE(refusal([&] { (void)saved.resumed(); }), "");
  }
  saved.state.counters.clear();
  saved.state.step = std::numeric_limits<int64_t>::max() - 1;
  EXPECT_NE(refusal([&] { (void)saved.resumed(); }), "");
}

class DataResumeTest : public RunsTest {
 protected:
  static CheckpointState state(const std::string& run, int64_t step) {
    return CheckpointReader(root_ / run / "checkpoints" / ("step-" + std::to_string(step))).state();
  }
  // The row of a step in metrics.jsonl.
  static nlohmann::json row(const std::string& run, int64_t step) {
    std::ifstream in(root_ / run / "metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto found = nlohmann::json::parse(line);
      if (found.at("step") == step && found.contains("loss")) return found;
    }
    return {};
  }
  static void resume(const std::string& name, std::vector<std::string> overrides, bool allow_changes = true) {
    overrides.insert(overrides.begin(), "optim.schedule.cosine.steps=8");
    TrainOptions options = RunsTest::options(name, overrides);
    options.resume = root_ / name;
    options.allow_changes = allow_changes;
    EXPECT_EQ(run(options), ExitCode::done);
  }
  // What the first step gives that trains the weights of `step` on `sequences` sequences from `first` on.
  static double loss_of(const std::string& run_name, int64_t step, int64_t first, int64_t sequences) {
    const std::string name = "loss_of_" + run_name + std::to_string(step);
    const Path from = root_ / run_name / "checkpoints" / ("step-" + std::to_string(step));
    EXPECT_EQ(run(options(name, {"train.steps=1", "train.init_from=" + from.string(),
                                 "batch.global_sequences=" + std::to_string(sequences),
                                 "data.skip+={ first: 0 last: " + std::to_string(first) + " }"})),
              ExitCode::done);
    return row(name, 1).at("loss");
  }
};

// Larger, then smaller, then one that is no multiple of a microbatch.
TEST_F(DataResumeTest, AnotherBatchGoesOnWithTheNextSequence) {
  EXPECT_EQ(
      run(options("batches", {"batch.global_sequences=2", "train.steps=4", "optim.schedule.cosine.steps=8"})),
      ExitCode::done);
  EXPECT_EQ(state("batches", 4).next_sequence, 8);
  resume("batches", {"batch.global_sequences=8", "train.steps=5"});
  EXPECT_EQ(state("batches", 5).next_sequence, 16);
  resume("batches", {"batch.global_sequences=3", "train.steps=7"});
  EXPECT_EQ(state("batches", 7).next_sequence, 22);
  EXPECT_EQ(state("batches", 7).counters.at("tokens"), 22 * 32);
  EXPECT_EQ(row("batches", 4).at("tokens"), 8 * 32);
  EXPECT_EQ(row("batches", 5).at("tokens"), 16 * 32);
  EXPECT_EQ(row("batches", 6).at("tokens"), 19 * 32);
  EXPECT_EQ(row("batches", 5).at("loss"), loss_of("batches", 4, 8, 8));
  EXPECT_EQ(row("batches", 6).at("loss"), loss_of("batches", 5, 16, 3));
}

TEST_F(DataResumeTest, PaddedSequencesAreNotCounted) {
  EXPECT_EQ(run(options("padded", {"batch.global_sequences=3", "train.deterministic=true", "train.steps=2"})),
            ExitCode::done);
  EXPECT_EQ(state("padded", 2).next_sequence, 6);
  EXPECT_EQ(state("padded", 2).counters.at("tokens"), 6 * 32);
}

TEST_F(DataResumeTest, LeftOutSequencesAreRecordedAndStayLeftOut) {
  EXPECT_EQ(run(options("left", {"train.steps=2", "optim.schedule.cosine.steps=8",
                                 "data.skip+={ first: 6 last: 10 }"})),
            ExitCode::done);
  EXPECT_EQ(state("left", 2).next_sequence, 12);
  EXPECT_EQ(state("left", 2).skipped, (std::vector<SequenceRange>{{6, 10}}));
  EXPECT_EQ(state("left", 2).counters.at("tokens"), 8 * 32);
  // What was left out need not be said again, and more may be added ahead without --allow-changes.
  resume("left", {"train.steps=4", "data.skip+={ first: 12 last: 14 }"}, false);
  EXPECT_EQ(state("left", 4).next_sequence, 22);
  EXPECT_EQ(state("left", 4).skipped, (std::vector<SequenceRange>{{6, 10}, {12, 14}}));
  EXPECT_EQ(row("left", 3).at("loss"), loss_of("left", 2, 14, 4));
  // It begins before 22, whatever is allowed.
  for (const bool allowed : {false, true}) {
    TrainOptions behind =
        options("left", {"optim.schedule.cosine.steps=8", "data.skip+={ first: 21 last: 25 }"});
    behind.resume = root_ / "left";
    behind.allow_changes = allowed;
    const std::string why = refusal([&] { (void)run(behind); });
    EXPECT_NE(why.find("before 22"), std::string::npos) << why;
  }
}

TEST_F(DataResumeTest, OtherDataIsStillRefused) {
  EXPECT_EQ(run(options("other", {"train.steps=2"})), ExitCode::done);
  TrainOptions seed = options("other", {"train.steps=2", "train.seed=4"});
  seed.resume = root_ / "other";
  EXPECT_THROW((void)run(seed), UserError);
}

}  // namespace
}  // namespace toroid::train
