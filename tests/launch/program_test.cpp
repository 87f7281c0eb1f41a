// The program's own flags and the train verb's, as typed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/launch/process.h"

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

TEST(Train, print_config_reads_back) {
  const Ended first =
      toroid({"train", "--config", kTiny, "--set", "train.steps=9", "--set=train.seed=3", "--print-config"});
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("# --set"), std::string::npos);
  EXPECT_NE(first.out.find("# configs/tiny_gemma.textproto:"), std::string::npos);
  EXPECT_NE(first.out.find("# default"), std::string::npos);
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
