// Where a run's config is found again: in the run, or in the manifest of a step.
#include "train/checkpoint/stored_config.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/checkpoint/fixture.h"

namespace toroid {
namespace {

std::string refusal(const Path& path) {
  try {
    (void)stored_config(path);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(StoredConfig, of_a_step_is_in_its_manifest_and_of_a_run_in_its_file) {
  const TemporaryDirectory directory;
  const Path run = directory / "run", step = run / "checkpoints" / "step-3";
  for (const int64_t at : {2, 3}) {
    SmallRun small(at);
    small.state.config = "model { d_model: " + std::to_string(at) + " }";
    save_checkpoint(run, small.state, small.slices, 8);
  }
  EXPECT_EQ(stored_config(step).text, "model { d_model: 3 }");
  EXPECT_NE(stored_config(step).origin.find(step.string()), std::string::npos);
  EXPECT_EQ(stored_config(step.string() + "/").text, "model { d_model: 3 }");
  // Without the run's own file, its newest step that can be read.
  EXPECT_EQ(stored_config(run).text, "model { d_model: 3 }");
  EXPECT_EQ(stored_config(run / "checkpoints").text, "model { d_model: 3 }");
  write_file(step / "manifest.json", "{");
  EXPECT_EQ(stored_config(run).text, "model { d_model: 2 }");
  EXPECT_NE(refusal(step).find("manifest.json"), std::string::npos);
  write_file(run / "config.textproto", "model { d_model: 7 }");
  EXPECT_EQ(stored_config(run).text, "model { d_model: 7 }");
  EXPECT_EQ(stored_config(run / "checkpoints/").text, "model { d_model: 7 }");
  EXPECT_EQ(stored_config(run).origin, (run / "config.textproto").string());
  // A step that was copied out of its run.
  std::filesystem::rename(run / "checkpoints" / "step-2", directory / "kept");
  EXPECT_EQ(stored_config(directory / "kept").text, "model { d_model: 2 }");
}

TEST(StoredConfig, that_is_not_there_is_said) {
  const TemporaryDirectory directory;
  EXPECT_NE(refusal(directory / "none").find("does not exist"), std::string::npos);
  EXPECT_NE(refusal(directory.path()).find("holds no config"), std::string::npos);
  write_file(directory / "file", "x");
  EXPECT_NE(refusal(directory / "file"), "");
  make_directories(directory / "run" / "checkpoints" / "step-4");
  EXPECT_NE(refusal(directory / "run" / "checkpoints" / "step-4").find("manifest.json"), std::string::npos);
  EXPECT_NE(refusal(directory / "run").find("holds no config"), std::string::npos);
}

}  // namespace
}  // namespace toroid
