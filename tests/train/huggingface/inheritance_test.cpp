// A run that goes on from an imported one keeps its ids and files, unless its tokenizer is another.
#include "train/huggingface/inheritance.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/huggingface/golden_models.h"
#include "tests/train/huggingface/small_model.h"
#include "train/config/load.h"
#include "train/huggingface/transfer.h"

namespace toroid::huggingface {
namespace {

namespace fs = std::filesystem;

class Inheritance : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(directory_ / "model");
    fs::create_directory(directory_ / "data");
    std::string config = read_file(golden_models().at(0) / "config.json", 1 << 20);
    config.replace(config.find("\"eos_token_id\": 1"), 17, "\"eos_token_id\": [1, 95]");
    write_file(directory_ / "model/config.json", config);
    fs::copy_file(golden_models().at(0) / "model.safetensors", directory_ / "model/model.safetensors");
    write_file(directory_ / "model/generation_config.json", "{}");
    import_model({.model = directory_ / "model", .out = directory_ / "parent"});
  }
  config::Resolved child(const std::string& more = "", bool with_data = false) {
    const std::string text = read_file(directory_ / "parent/config.textproto", 1 << 20);
    std::vector<std::string> overrides = {"train.init_from=" + (directory_ / "parent").string()};
    if (!more.empty()) overrides = {more};
    config::Resolved resolved = config::load_text(text, "child", overrides);
    resolved.run.mutable_model()->clear_token_ids();
    if (with_data) resolved.run.mutable_data()->set_directory((directory_ / "data").string());
    return resolved;
  }
  TemporaryDirectory directory_;
};

TEST_F(Inheritance, IdsComeFromTheRunBefore) {
  for (const bool resumed : {false, true}) {
    config::Resolved resolved = resumed ? child("train.steps=2") : child();
    inherit_token_ids(resolved, resumed ? directory_ / "parent/checkpoints/step-0" : Path());
    const auto& ids = resolved.run.model().token_ids();
    EXPECT_EQ(ids.bos(), 2);
    ASSERT_EQ(ids.eos_size(), 2);
    EXPECT_EQ(ids.eos(1), 95);
    // They are there again after the text that a checkpoint keeps.
    const auto again = config::load_text(config::to_text(resolved), "again");
    EXPECT_EQ(again.run.model().token_ids().eos_size(), 2);
  }
  config::Resolved alone = child("train.steps=2");
  inherit_token_ids(alone, {});
  EXPECT_FALSE(alone.run.model().has_token_ids());
  config::Resolved own = child();
  own.run.mutable_model()->mutable_token_ids()->add_eos(7);
  inherit_token_ids(own, {});
  EXPECT_EQ(own.run.model().token_ids().eos(0), 7);
}

TEST_F(Inheritance, NotWithAnotherTokenizer) {
  write_file(directory_ / "data/tokenizer.model", small_model());
  config::Resolved resolved = child("", true);
  inherit_token_ids(resolved, {});
  EXPECT_FALSE(resolved.run.model().has_token_ids());
  inherit_files(resolved.run, {}, directory_ / "run");
  EXPECT_TRUE(kept_files(directory_ / "run").empty());
  write_file(directory_ / "parent/tokenizer.model", small_model());
  inherit_token_ids(resolved, {});
  EXPECT_EQ(resolved.run.model().token_ids().eos_size(), 2);
  inherit_files(resolved.run, {}, directory_ / "run");
  EXPECT_EQ(kept_files(directory_ / "run").at("generation_config.json"), "{}");
}

TEST_F(Inheritance, FilesFollowTheWeights) {
  inherit_files(child().run, {}, directory_ / "run");
  EXPECT_EQ(kept_files(directory_ / "run").size(), 1u);
  inherit_files(child("train.steps=2").run, directory_ / "parent", directory_ / "parent");
  EXPECT_EQ(kept_files(directory_ / "parent").size(), 1u);
}

// A run without data of its own takes no tokenizer that happens to lie where the program was started.
TEST_F(Inheritance, TheWorkingDirectoryIsNoRun) {
  const Path before = fs::current_path();
  write_file(directory_ / "data/tokenizer.model", small_model());
  fs::current_path(directory_ / "data");
  const auto found = tokenizer_file(directory_ / "parent", {});
  fs::current_path(before);
  EXPECT_EQ(found, std::nullopt);
}

}  // namespace
}  // namespace toroid::huggingface
