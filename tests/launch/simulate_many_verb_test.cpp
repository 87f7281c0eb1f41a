// toroid simulate --sweep and --search, as typed.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/launch/process.h"

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

}  // namespace
}  // namespace toroid::test
