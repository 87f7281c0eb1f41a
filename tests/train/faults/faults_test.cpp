// Faults that a run inflicts on itself: which, when, once, and that they do what they say. Those that end a
// process are injected in tests/launch/fault_matrix_test.sh.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/loop/runs.h"
#include "train/config/check.h"
#include "train/faults/disk.h"
#include "train/faults/plan.h"
#include "train/faults/record.h"

namespace toroid::faults {
namespace {

namespace fs = std::filesystem;
using config::Fault;
using config::FaultsConfig;

FaultsConfig random_faults(double mean, uint64_t seed) {
  FaultsConfig out;
  out.mutable_random()->set_mean_steps(mean);
  out.mutable_random()->set_seed(seed);
  for (const auto kind : {Fault::KILL, Fault::STOP, Fault::DROP}) out.mutable_random()->add_kinds(kind);
  return out;
}

std::vector<std::string> texts(Plan plan, int64_t from, int64_t to) {
  std::vector<std::string> out;
  for (int64_t step = from; step <= to; ++step) {
    for (const Planned& planned : plan.at(step)) out.push_back(planned.id + " " + planned.text());
  }
  return out;
}

TEST(FaultPlan, is_a_function_of_the_seed_wherever_a_start_begins) {
  const FaultsConfig faults = random_faults(7, 3);
  const std::vector<std::string> all = texts(Plan(faults, 1, 4), 1, 5000);
  ASSERT_GT(all.size(), 600u);
  EXPECT_LT(all.size(), 830u);  // 5000 / 7 = 714
  std::vector<std::string> parts = texts(Plan(faults, 1, 4), 1, 2000);
  const std::vector<std::string> rest = texts(Plan(faults, 1, 4), 2001, 5000);
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, all);
  EXPECT_NE(texts(Plan(random_faults(7, 4), 1, 4), 1, 5000), all);
  for (const char* kind : {"KILL", "STOP", "DROP"}) {
    for (const char* rank : {"0", "1", "2", "3"}) {
      const std::string wanted = std::string(kind) + " of rank " + rank;
      const auto count = std::count_if(all.begin(), all.end(), [&](const std::string& text) {
        return text.find(wanted) != std::string::npos;
      });
      EXPECT_GT(count, 30) << wanted;
      EXPECT_LT(count, 95) << wanted;
    }
  }
}

TEST(FaultPlan, listed_ones_are_at_their_step) {
  FaultsConfig faults;
  for (const int64_t step : {5, 9, 5}) {
    Fault& fault = *faults.add_fault();
    fault.set_kind(Fault::SLOW);
    fault.set_step(step);
  }
  faults.mutable_fault(1)->set_rank(3);
  Plan plan(faults, 1, 4);
  EXPECT_TRUE(plan.has({Fault::KILL, Fault::SLOW}));
  EXPECT_FALSE(plan.has({Fault::KILL}));
  EXPECT_TRUE(plan.at(4).empty());
  ASSERT_EQ(plan.at(5).size(), 2u);
  EXPECT_EQ(plan.at(5)[1].id, "fault[2]");
  EXPECT_EQ(plan.at(9).at(0).rank, 3);
  EXPECT_TRUE(Plan(FaultsConfig(), 1, 4).empty());
}

TEST(FaultRecord, is_kept_though_a_line_was_cut_short) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(recorded(directory.path()).empty());
  Planned fault;
  fault.id = "fault[0]";
  record(directory.path(), fault, 7);
  fault.id = "random[12]";
  record(directory.path(), fault, 8);
  {
    std::ofstream out(directory.path() / kRecord, std::ios::app);
    out << R"({"fault":"fault[9]","kind)";
  }
  EXPECT_EQ(recorded(directory.path()), (std::set<std::string>{"fault[0]", "random[12]"}));
  fault.id = "fault[1]";
  record(directory.path(), fault, 9);
  EXPECT_EQ(recorded(directory.path()), (std::set<std::string>{"fault[0]", "random[12]", "fault[1]"}));
  EXPECT_THROW(record(directory.path() / "nowhere", fault, 9), SystemError);
}

std::string refused(const std::string& text) {
  try {
    config::load_text(
        "model { d_model: 32 layers: 2 heads: 4 head_dim: 8 ffn: 48 vocab: 640 } "
        "batch { tokens_per_sequence: 32 global_sequences: 4 } train { steps: 8 } "
        "optim { schedule { constant { peak: 1e-3 } } } faults { " +
            text + " }",
        "test");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(FaultsConfig, says_what_is_wrong) {
  EXPECT_EQ(refused("fault { kind: KILL step: 3 }"), "");
  EXPECT_EQ(refused("fault { kind: GRADIENT step: 3 rank: 9 bit: 30 }"), "");
  EXPECT_EQ(refused("random { mean_steps: 40 seed: 7 kinds: [KILL, STOP] }"), "");
  const struct {
    const char* text;
    const char* said;
  } kCases[] = {
      {"fault { step: 3 }", "faults.fault[0].kind is not set"},
      {"fault { kind: KILL step: 3 } fault { kind: KILL }", "faults.fault[1].step is not set"},
      {"fault { kind: KILL step: 0 }", "faults.fault[0].step"},
      {"fault { kind: KILL step: 3 rank: -1 }", "faults.fault[0].rank"},
      {"fault { kind: KILL step: 3 milliseconds: 5 }", "it is a value of SLOW"},
      {"fault { kind: SLOW step: 3 milliseconds: -5 }", "faults.fault[0].milliseconds"},
      {"fault { kind: KILL step: 3 value: 1 }", "it is a value of GRADIENT and WEIGHT"},
      {"fault { kind: FILE step: 3 bit: 8 }", "faults.fault[0].bit"},
      {"fault { kind: WEIGHT step: 3 bit: 8 value: 2 }", "has a bit and a value"},
      {"fault { kind: STOP step: 3 megabytes: 8 }", "it is a value of FULL_DISK"},
      {"random { mean_steps: 0.5 kinds: [KILL] }", "faults.random.mean_steps"},
      {"random { kinds: [KILL] }", "faults.random.mean_steps is not set"},
      {"random { mean_steps: 40 }", "faults.random.kinds is not set"},
      {"fault { kind: EXPLODE step: 3 }", "EXPLODE"},
  };
  for (const auto& [text, said] : kCases) {
    EXPECT_NE(refused(text).find(said), std::string::npos) << text << ": " << refused(text);
  }
}

TEST(FullDisk, leaves_a_file_system_with_more_room_alone) {
  const TemporaryDirectory directory;
  const FullDisk disk(directory.path(), 4096);
  EXPECT_FALSE(disk.full());
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

// Faults of a run of one rank.
class FaultyRuns : public train::RunsTest {
 protected:
  static train::TrainOptions options(const std::string& out, std::vector<std::string> overrides) {
    // Small, and on a machine that does other things too.
    overrides.insert(overrides.end(),
                     {"train.threads=1", "train.validate.every=0", "train.deterministic=true"});
    return RunsTest::options(out, overrides);
  }
  static ExitCode train_with(const std::string& out, const std::vector<std::string>& overrides) {
    return run(options(out, overrides));
  }
  static std::string contents(const std::string& file) {
    std::ifstream in(root_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(FaultyRuns, change_what_they_name_once) {
  ASSERT_EQ(train_with("calm", {}), ExitCode::done);
  const auto calm = hashes("calm");
  EXPECT_FALSE(fs::exists(root_ / "calm" / kRecord));

  const std::string weight = "faults.fault+={kind: WEIGHT step: 7 bit: 20}";
  ASSERT_EQ(train_with("weight", {weight, "train.detect.memory_every=0"}), ExitCode::done);
  EXPECT_NE(hashes("weight"), calm);
  EXPECT_EQ(recorded(root_ / "weight"), std::set<std::string>{"fault[0]"});

  ASSERT_EQ(train_with("gradient", {"faults.fault+={kind: GRADIENT step: 5 value: 1e30}"}), ExitCode::done);
  EXPECT_NE(metrics("gradient").find("\"skipped\":true"), std::string::npos);
  EXPECT_NE(hashes("gradient"), calm);

  // A slow step, and what a rank alone cannot do, change nothing.
  ASSERT_EQ(
      train_with("harmless", {"faults.fault+={kind: SLOW step: 3 milliseconds: 200 steps: 2}",
                              "faults.fault+={kind: MESSAGE step: 4}", "faults.fault+={kind: DROP step: 5}"}),
      ExitCode::done);
  EXPECT_EQ(hashes("harmless"), calm);
}

// A weight that changes behind a run's back is found, and once it has gone back to its last checkpoint the
// run ends as if nothing had been.
TEST_F(FaultyRuns, a_changed_weight_is_found) {
  ASSERT_EQ(train_with("well", {}), ExitCode::done);
  const std::vector<std::string> weight{"faults.fault+={kind: WEIGHT step: 7 bit: 20}"};
  EXPECT_THROW((void)train_with("spoiled", weight), CorruptionError);
  EXPECT_NE(contents("spoiled/incidents.jsonl").find("\"detector\":\"memory\""), std::string::npos);
  train::TrainOptions again = options("spoiled", weight);
  again.resume = root_ / "spoiled";
  ASSERT_EQ(run(again), ExitCode::done);
  EXPECT_EQ(hashes("spoiled"), hashes("well"));
}

TEST_F(FaultyRuns, a_save_that_fails_is_left_out) {
  for (const std::string async : {"false", "true"}) {
    const std::string name = "left_out_" + async;
    ASSERT_EQ(
        train_with(name, {"faults.fault+={kind: FAIL_SAVE step: 5}", "train.checkpoint.async=" + async}),
        ExitCode::done);
    EXPECT_EQ(checkpoint_steps(root_ / name), (std::vector<int64_t>{2, 4, 8}));
  }
}

TEST_F(FaultyRuns, a_save_fails_and_the_run_goes_on_from_the_one_before) {
  ASSERT_EQ(train_with("steady", {}), ExitCode::done);
  const std::vector<std::string> fails{"faults.fault+={kind: FAIL_SAVE step: 5}",
                                       "train.checkpoint.on_failure=STOP"};
  try {
    (void)train_with("fails", fails);
    ADD_FAILURE() << "the save did not fail";
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("FAIL_SAVE of rank 0 at step 5"), std::string::npos);
  }
  EXPECT_EQ(checkpoint_steps(root_ / "fails").back(), 4);
  // The same config: what has happened does not happen again.
  train::TrainOptions again = options("fails", fails);
  again.resume = root_ / "fails";
  ASSERT_EQ(run(again), ExitCode::done);
  EXPECT_EQ(hashes("fails"), hashes("steady"));
  // A run that replaces it begins anew.
  again.resume.clear();
  again.again = true;
  EXPECT_THROW((void)run(again), SystemError);
}

TEST_F(FaultyRuns, a_damaged_checkpoint_is_passed_over) {
  ASSERT_EQ(train_with("file", {"train.steps=5", "optim.schedule={ constant { peak: 1e-3 } }",
                                "faults.fault+={kind: FILE step: 5}"}),
            ExitCode::done);
  // Step 5 was saved after the fault; without it, 4 is the newest, and damaged.
  fs::remove_all(root_ / "file" / "checkpoints" / "step-5");
  EXPECT_EQ(CheckpointReader(root_ / "file").state().step, 2);
  EXPECT_THROW(CheckpointReader(root_ / "file" / "checkpoints" / "step-4"), UserError);
}

TEST_F(FaultyRuns, other_faults_are_no_change_of_a_run) {
  ASSERT_EQ(train_with("other", {"optim.schedule={ constant { peak: 1e-3 } }", "train.steps=2"}),
            ExitCode::done);
  train::TrainOptions more =
      options("other", {"optim.schedule={ constant { peak: 1e-3 } }", "train.steps=3",
                        "batch.on_fewer_pods=SCALE", "faults.random={ mean_steps: 1e9 kinds: [KILL] }"});
  more.resume = root_ / "other";
  EXPECT_EQ(run(more), ExitCode::done);
  // With fewer pods the config itself says that the batch is another.
  train::TrainOptions scaled =
      options("other", {"optim.schedule={ constant { peak: 1e-3 } }", "train.steps=4",
                        "batch.on_fewer_pods=SCALE", "batch.global_sequences=2"});
  scaled.resume = root_ / "other";
  EXPECT_EQ(run(scaled), ExitCode::done);
  train::TrainOptions kept = options(
      "other", {"optim.schedule={ constant { peak: 1e-3 } }", "train.steps=5", "batch.global_sequences=4"});
  kept.resume = root_ / "other";
  EXPECT_THROW((void)run(kept), UserError);
}

}  // namespace
}  // namespace toroid::faults
