// The program's own flags and the train verb's, as typed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/launch/toroid/process.h"

namespace toroid::test {
namespace {

Ended toroid(const std::vector<std::string>& arguments) {
  return run_program(TOROID_PROGRAM, arguments);
}

// Ended with 2 and one sentence that has `part`.
void expect_refused(const std::vector<std::string>& arguments, const std::string& part) {
  const Ended ended = toroid(arguments);
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_NE(ended.err.find(part), std::string::npos) << ended.err;
  EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  EXPECT_EQ(ended.err.rfind("toroid: ", 0), 0u) << ended.err;
}

const std::string kTiny = "configs/tiny_gemma.textproto";

TEST(Program, help_names_the_verbs) {
  const Ended ended = toroid({"--help"});
  EXPECT_EQ(ended.code, 0);
  for (const char* word : {"train", "--version", "docs/exit_codes.md"}) {
    EXPECT_NE(ended.out.find(word), std::string::npos) << word;
  }
  const Ended train = toroid({"train", "--help"});
  EXPECT_EQ(train.code, 0);
  for (const char* flag :
       {"--config", "--set", "--out", "--resume", "--print-config", "--check", "--dry-run", "--again"}) {
    EXPECT_NE(train.out.find(flag), std::string::npos) << flag;
  }
}

TEST(Program, version_says_what_was_built) {
  const Ended ended = toroid({"--version"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out.rfind("toroid ", 0), 0u);
  for (const char* word : {"build", "features", "oneDNN"})
    EXPECT_NE(ended.out.find(word), std::string::npos) << word;
}

TEST(Program, without_a_verb_it_prints_help_and_refuses) {
  const Ended ended = toroid({});
  EXPECT_EQ(ended.code, 2);
  EXPECT_NE(ended.err.find("train"), std::string::npos);
}

TEST(Program, unknown_verbs_and_flags_get_a_suggestion) {
  expect_refused({"trian"}, "`toroid` has no verb trian; did you mean train?");
  expect_refused({"train", "--cnofig", "x"}, "`toroid train` has no flag --cnofig; did you mean --config?");
  expect_refused({"--verson"}, "`toroid` has no flag --verson; did you mean --version?");
  expect_refused({"train", "--config"}, "--config");
  expect_refused({"train", "--config", kTiny, "stray"}, "stray");
  expect_refused({"train", "--\x1b[31mred"}, "\\x1b");
}

TEST(Train, check_says_what_is_valid) {
  const Ended ended = toroid({"train", "--config", kTiny, "--check"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.out, kTiny + ": valid; 36,000 parameters, 8 steps of 128 tokens\n");
}

// Wherever one step stands for a run whose batches grow, it is said which.
TEST(Program, says_which_phase_of_a_ramp_it_means) {
  const std::string ramp =
      "batch={ tokens_per_sequence: 32 ramp { global_sequences: 1 } ramp { step: 3 global_sequences: 2 } }";
  const std::string phases = "1 sequence a step, 2 from step 3 on";
  const Ended checked = toroid({"train", "--config", kTiny, "--set", ramp, "--check"});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_NE(checked.out.find("8 steps of 64 tokens (batch.ramp: " + phases + ")"), std::string::npos)
      << checked.out;
  const std::vector<std::string> bench{"bench", "step",    "--config", kTiny,    "--set",
                                       ramp,    "--steps", "1",        "--json", "--no-floor"};
  const Ended timed = toroid(bench);
  EXPECT_EQ(timed.code, 0) << timed.err;
  EXPECT_NE(timed.out.find("\"tokens\":64,\"batch_ramp\":{\"phases\":\"" + phases + "\",\"timed\":\"last\"}"),
            std::string::npos)
      << timed.out;
}

TEST(Train, print_config_reads_back) {
  const Ended first =
      toroid({"train", "--config", kTiny, "--set", "train.steps=9", "--set=train.seed=3", "--print-config"});
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("# --set"), std::string::npos);
  EXPECT_NE(first.out.find("# configs/tiny_gemma.textproto:"), std::string::npos);
  EXPECT_NE(first.out.find("# default"), std::string::npos);
}

TEST(Train, check_and_print_config_warn_of_a_schedule_that_ends_early) {
  for (const std::string flag : {"--check", "--print-config"}) {
    const Ended ended = toroid({"train", "--config", kTiny, "--set", "optim.schedule.cosine.peak=1e-3",
                                "--set", "optim.schedule.cosine.steps=6", "--set", "train.steps=9", flag});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_NE(ended.err.find("the schedule ends at step 6, and 3 steps follow"), std::string::npos)
        << ended.err;
    EXPECT_NE(ended.err.find("set optim.schedule.cosine.steps"), std::string::npos) << ended.err;
  }
  EXPECT_EQ(toroid({"train", "--config", kTiny, "--check"}).err, "");
}

TEST(DataShow, refuses_places_that_are_none) {
  const std::vector<std::string> show{"data", "show", "--config", "configs/quickstart.textproto"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), show.begin(), show.end());
    return more;
  };
  expect_refused(with({"--step=-1"}), "--step is -1");
  expect_refused(with({"--step", "9000000000000000000"}), "--step is 9000000000000000000");
  expect_refused(with({"--at=-1"}), "--at");
  expect_refused(with({"--at", "2000000000000000000"}), "--at is 2000000000000000000");
  expect_refused(with({"--at", "3", "--step", "3"}), "--step");
  expect_refused(with({"--at", "8", "--set", "data.skip+={ first: 5 last: 9 }"}),
                 "--at is 8, but data.skip leaves out the global sequences 5 to 8");
  expect_refused(with({"--set", "data.skip+={ first: 5 last: 5 }"}), "data.skip[0].last is 5");
  expect_refused(with({"--set", "data.skip+={ last: 5 }"}), "data.skip[0].first is not set");
}

TEST(Train, keeps_the_ids_of_the_model_it_starts_from) {
  const TemporaryDirectory directory;
  std::string text = toroid({"train", "--config", kTiny, "--print-config"}).out;
  EXPECT_EQ(text.find("token_ids"), std::string::npos);
  text.insert(text.find("\n}", text.find("model {")) + 1, "  token_ids { bos: 3 eos: 1 eos: 107 }\n");
  std::ofstream(directory / "config.textproto") << text;
  const Ended student = toroid({"train", "--config", kTiny, "--print-config", "--set",
                                "train.init_from=" + directory.path().string()});
  EXPECT_EQ(student.code, 0) << student.err;
  for (const char* line : {"bos: 3 ", "eos: 1 ", "eos: 107 ", "# from "})
    EXPECT_NE(student.out.find(line), std::string::npos) << line << student.out;
}

TEST(Train, bad_input_is_one_sentence_and_exit_code_2) {
  expect_refused({"train"}, "give --config FILE");
  expect_refused({"train", "--config", "no/such/file"}, "no/such/file");
  expect_refused({"train", "--config", "configs"}, "configs");
  expect_refused({"train", "--config", "/dev/zero"}, "/dev/zero");
  expect_refused({"train", "--config", kTiny, "--set", "train.stpes=3", "--check"},
                 "did you mean train.steps?");
  expect_refused({"train", "--config", kTiny, "--set", "train.steps=x", "--check"}, "not \"x\"");
  expect_refused(
      {"train", "--config", kTiny, "--set", "model.heads=6", "--set", "model.kv_heads=4", "--check"},
      "model.heads (6) is not a multiple of model.kv_heads (4)");
  expect_refused({"train", "--resume", "no/such/run"}, "no/such/run");
  expect_refused({"train", "--config", kTiny}, "the config has no data section");
  expect_refused({"prepare", "--config", kTiny}, "the config has no data section");
  expect_refused({"train", "--config", kTiny, "--again", "--resume", "x"}, "give one of them");
}

std::set<std::string> flags_of(const std::string& verb) {
  std::set<std::string> flags;
  std::istringstream words(toroid({verb, "--help"}).out);
  for (std::string word; words >> word;) {
    if (word.starts_with("--")) flags.insert(word.substr(0, word.find_first_of(",=[")));
  }
  return flags;
}

// Two lists would differ sooner or later.
TEST(Launch, takes_every_flag_of_train) {
  const std::set<std::string> train = flags_of("train"), launch = flags_of("launch");
  EXPECT_GE(train.size(), 12u);
  for (const std::string& flag : train) EXPECT_TRUE(launch.contains(flag)) << flag;
  for (const char* own : {"--ranks", "--hosts", "--threads", "--print"}) {
    EXPECT_TRUE(launch.contains(own) && !train.contains(own)) << own;
  }
}

TEST(Launch, hands_them_to_the_ranks) {
  const Ended ended = toroid({"launch", "--print", "--config", kTiny, "--set", "mesh.data=2", "--resume",
                              "runs/x", "--allow-changes", "--trace", "t.json", "--out", "runs/y"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  for (const char* part : {"mpirun -n 2 ", " train --config ", "--set=mesh.data=2", "--resume runs/x",
                           "--allow-changes", "--trace t.json", "--out runs/y"}) {
    EXPECT_NE(ended.out.find(part), std::string::npos) << part << " is not in " << ended.out;
  }
}

// Each verb, with the config that the run or the checkpoint stored.
TEST(Launch, resumes_with_the_stored_config) {
  const TemporaryDirectory run;
  std::filesystem::copy_file(kTiny, run / "config.textproto");
  const std::string path = run.path().string();
  const Ended printed = toroid({"launch", "--print", "--resume", path, "--set=mesh.data=3"});
  EXPECT_EQ(printed.code, 0) << printed.err;
  EXPECT_NE(printed.out.find("mpirun -n 3 "), std::string::npos) << printed.out;
  EXPECT_NE(printed.out.find(" train --set=mesh.data=3 --resume " + path), std::string::npos) << printed.out;
  for (const char* verb : {"train", "launch"}) {
    const Ended check = toroid({verb, "--check", "--resume", path});
    EXPECT_EQ(check.code, 0) << check.err;
    EXPECT_EQ(check.out, path + ": valid; 36,000 parameters, 8 steps of 128 tokens\n");
    EXPECT_EQ(toroid({verb, "--print-config", "--resume", path, "--set=train.steps=9"}).code, 0);
    const Ended dry = toroid({verb, "--dry-run", "--resume", path});
    EXPECT_NE(dry.out.find("memory at the peak, by holder"), std::string::npos) << dry.err;
    expect_refused({verb, "--resume", "no/such/run"}, "no/such/run");
    expect_refused({verb, "--resume", path, "--again"}, "give one of them");
  }
}

// What every rank would say of itself, before one is started.
TEST(Launch, refuses_what_cannot_be_trained_before_ranks_start) {
  expect_refused({"launch", "--config", kTiny, "--set=mesh.data=2"}, "the config has no data section");
  expect_refused({"launch", "--config", "configs/gemma_2b_v5e_512.textproto"}, "use `toroid simulate");
  expect_refused({"launch"}, "give --config FILE");
}

// Before any rank is started.
TEST(Certify, bad_input_is_one_sentence_and_exit_code_2) {
  const auto certify = [](const std::string& layouts, const std::string& steps) {
    return std::vector<std::string>{"certify", "--config", kTiny, "--layouts", layouts, "--steps", steps};
  };
  expect_refused(certify("1x1", "0"), "--steps");
  expect_refused(certify("1x1", "-3"), "--steps");
  expect_refused(certify("1x1; 3x1", "1"), "the layout '3x1' does not fit: ");
  expect_refused(certify("1x1; model 8 of 1x8", "1"), "the layout 'model 8 of 1x8' does not fit: ");
  expect_refused(certify("1x1; 2y2", "1"), "2y2");
}

TEST(Train, a_dry_run_needs_no_data) {
  const Ended ended = toroid({"train", "--config", kTiny, "--dry-run"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(ended.out.find("memory at the peak, by holder"), std::string::npos);
}

TEST(Train, a_full_disk_behind_a_redirection_is_noticed) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  const Ended ended = run_program("/bin/sh", {"-c", std::string(TOROID_PROGRAM) + " train --config " + kTiny +
                                                        " --print-config > /dev/full"});
  EXPECT_EQ(ended.code, 3) << ended.err;
}

}  // namespace
}  // namespace toroid::test
