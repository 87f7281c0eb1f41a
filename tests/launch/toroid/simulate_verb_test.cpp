// toroid simulate, as typed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/launch/toroid/process.h"

namespace toroid::test {
namespace {

Ended simulate(std::vector<std::string> more) {
  more.insert(more.begin(), "simulate");
  return run_program(TOROID_PROGRAM, more);
}

std::string contents(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in\n" << text;
}

constexpr const char* kConfig = "configs/gemma_2b_v5e_512.textproto";

TEST(SimulateVerb, PrintsATableAndJson) {
  for (const char* config : {"configs/gemma_7b_v5e_4096.textproto", kConfig}) {
    const Ended table = simulate({"--config", config});
    EXPECT_EQ(table.code, 0) << table.err;
    EXPECT_EQ(table.out.rfind("simulated: ", 0), 0u) << table.out;
    expect_has(table.out, "fitted constants");
    const Ended json = simulate({"--config", config, "--json", "--constants", "nominal"});
    EXPECT_EQ(json.code, 0) << json.err;
    expect_has(json.out, "\"simulated\": true");
    expect_has(json.out, "\"constants\": \"nominal\"");
  }
}

TEST(SimulateVerb, BadInputGetsOneSentence) {
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } cases[] = {
      {{"--chip", "v9"}, "there is no chip 'v9'"},
      {{"--set", "mesh.torus=[32,8]"}, "does not fit on one of 16"},
      {{"--set", "model.layers=-1"}, "model.layers is -1"},
      {{"--set", "batch.tokens_per_sequence=-8"}, "batch.tokens_per_sequence is -8"},
      {{"--jitter", "nan"}, "--jitter is nan"},
      {{"--jitter", "-1"}, "--jitter is -1"},
      {{"--straggler", "5"}, "--straggler is '5'"},
      {{"--straggler", "512=2"}, "--straggler's rank is 512"},
      {{"--link-fault", "3=0.1"}, "--link-fault's dimension is 3"},
      {{"--tokens", "-3"}, "--tokens is -3"},
      {{"--set", "mesh.pods=512", "--set", "batch.global_sequences=131072", "--jitter", "0.1"},
       "are played one by one"},
      {{"--set", "batch.sequences_per_replica=2", "--set", "batch.global_sequences=1024", "--set",
        "train.remat=NONE"},
       "with train.remat=FULL it would take"},
      {{"--trace", "nowhere/at/all.json"}, "there is no directory"},
  };
  for (const auto& each : cases) {
    std::vector<std::string> arguments = each.arguments;
    arguments.insert(arguments.begin(), {"--config", kConfig});
    const Ended ended = simulate(arguments);
    EXPECT_EQ(ended.code, 2) << each.says;
    expect_has(ended.err, each.says);
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  }
}

TEST(SimulateVerb, TrainSaysToUseIt) {
  const Ended ended = run_program(TOROID_PROGRAM, {"train", "--config", kConfig});
  EXPECT_EQ(ended.code, 2);
  expect_has(ended.err, "use `toroid simulate");
}

TEST(SimulateManyVerb, writes_the_table_and_the_chart) {
  const TemporaryDirectory directory;
  const auto path = [&](const char* name) { return (directory.path() / name).string(); };
  const std::vector<std::string> sweep = {"--config", kConfig, "--sweep", "mesh.pods=1,2,4", "--weak"};
  for (const char* chart : {"a.svg", "a.html"}) {
    std::vector<std::string> arguments = sweep;
    arguments.insert(arguments.end(), {"--csv", path("a.csv"), "--chart", path(chart)});
    const Ended ended = simulate(arguments);
    EXPECT_EQ(ended.code, 0) << ended.err;
    expect_has(ended.out, "simulated, weak scaling");
    expect_has(ended.out, "3 configurations in");
  }
  const std::string csv = contents(path("a.csv"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 4) << csv;
  EXPECT_EQ(contents(path("a.svg")).rfind("<svg ", 0), 0u);
  const std::string html = contents(path("a.html"));
  expect_has(html, "<svg ");
  expect_has(html,
             "toroid simulate --config configs/gemma_2b_v5e_512.textproto --sweep mesh.pods=1,2,4 --weak");
}

TEST(SimulateManyVerb, searches) {
  const Ended ended = simulate({"--config", kConfig, "--set", "mesh.pods=1", "--search", "--best", "3"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  expect_has(ended.out, "simulated: layouts on 256 chips v5e in 1 pod");
  expect_has(ended.out, "\n   3 ");
  expect_has(ended.out, "layouts tried in");
}

TEST(SimulateManyVerb, wrong_flags_are_one_sentence) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
      {{"--sweep", "mesh.podz=1,2"}, "did you mean mesh.pods?"},
      {{"--sweep", "mesh.pods"}, "--sweep takes path=v1,v2,..."},
      {{"--weak"}, "belong to --sweep"},
      {{"--sweep", "mesh.pods=1,2", "--chart", "x.png"}, "FILE.svg or FILE.html"},
      {{"--search", "--sweep", "mesh.pods=1"}, "without --sweep"},
  };
  for (const auto& [flags, says] : wrong) {
    std::vector<std::string> arguments = {"--config", kConfig};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Ended ended = simulate(arguments);
    EXPECT_EQ(ended.code, 2) << flags[0];
    expect_has(ended.err, says);
  }
  const Ended ended = simulate({"--sweep", "chip=v5e"});
  EXPECT_EQ(ended.code, 2);
  expect_has(ended.err, "no config");
}

// As a script that guards a calibration asks: the exit code says whether its bounds hold.
TEST(CalibrateVerb, CheckFailsWhereABoundDoesNotHold) {
  const TemporaryDirectory directory;
  std::filesystem::copy("configs", directory / "configs", std::filesystem::copy_options::recursive);
  const std::filesystem::path file = directory / "configs" / "calibration.textproto";
  const std::vector<std::string> check = {"calibrate", "--check", "--file", file.string()};
  const Ended holds = run_program(TOROID_PROGRAM, check);
  EXPECT_EQ(holds.code, 0) << holds.out << holds.err;
  EXPECT_EQ(holds.out.find("Out of bounds"), std::string::npos) << holds.out;

  std::string text = contents(file.string());
  // Runs that come out a percent off, held to a hundredth of one.
  const std::string bound = "most_error_percent: 5";
  const size_t at = text.find(bound, text.find("name: \"maxtext_16b\""));
  ASSERT_NE(at, std::string::npos);
  text.replace(at, bound.size(), "most_error_percent: 0.01");
  std::ofstream(file) << text;
  const Ended broken = run_program(TOROID_PROGRAM, check);
  EXPECT_EQ(broken.code, 1) << broken.out << broken.err;
  expect_has(broken.out, "Out of bounds: maxtext_16b");
}

}  // namespace
}  // namespace toroid::test
