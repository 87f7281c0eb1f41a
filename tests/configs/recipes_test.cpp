// Every recipe under configs/ reads, validates and prints back; the four parameter counts of the Gemma
// report.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "core/base/text.h"
#include "core/model/check.h"
#include "train/config/load.h"

namespace toroid::config {
namespace {

int64_t count(const std::string& recipe) {
  return model::count_parameters(load("configs/" + recipe + ".textproto").run.model()).total();
}

// The calibration of simulated chips has a test of its own (tests/train/simulate).
bool is_recipe(const std::filesystem::path& path) {
  return path.extension() == ".textproto" && path.stem() != "calibration";
}

TEST(Recipes, every_recipe_is_valid_and_prints_back) {
  int recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs")) {
    if (!is_recipe(entry.path())) continue;
    SCOPED_TRACE(entry.path());
    const Resolved resolved = load(entry.path());
    const Resolved again = load_text(to_text(resolved), "again");
    EXPECT_EQ(resolved.run.SerializeAsString(), again.run.SerializeAsString());
    ++recipes;
  }
  EXPECT_GE(recipes, 10);
}

TEST(Recipes, state_their_parameters_tokens_flops_and_memory) {
  for (const auto& entry : std::filesystem::directory_iterator("configs")) {
    if (!is_recipe(entry.path())) continue;
    SCOPED_TRACE(entry.path());
    const std::string text = read_file(entry.path(), 1 << 20);
    EXPECT_EQ(text.rfind("# " + entry.path().stem().string() + ":", 0), 0u);
    for (const char* part : {"model", "parameters", "tokens", "FLOPs", "memory"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part;
    }
    const int64_t parameters = model::count_parameters(load(entry.path()).run.model()).total();
    const bool exact = text.find(with_commas(parameters)) != std::string::npos;
    const bool rounded = text.find(std::to_string(parameters / 1'000'000) + "." +
                                   std::to_string(parameters / 100'000 % 10) + " M") != std::string::npos;
    EXPECT_TRUE(exact || rounded) << with_commas(parameters);
  }
}

TEST(Recipes, parameter_counts_of_the_report) {
  const auto gemma_2b = model::count_parameters(load("configs/gemma_2b.textproto").run.model());
  EXPECT_EQ(gemma_2b.layers, 1'981'884'416);
  EXPECT_EQ(gemma_2b.embedding, 524'550'144);
  const auto gemma_7b = model::count_parameters(load("configs/gemma_7b.textproto").run.model());
  EXPECT_EQ(gemma_7b.layers, 7'751'248'896);
  EXPECT_EQ(gemma_7b.embedding, 786'825'216);
  EXPECT_EQ(model::count_parameters(load("configs/gemma2_2b.textproto").run.model()).layers, 2'024'517'888);
  EXPECT_EQ(model::count_parameters(load("configs/gemma3_1b.textproto").run.model()).layers, 697'896'064);
  EXPECT_EQ(count("bench_b1"), 126'634'752);
}

}  // namespace
}  // namespace toroid::config
