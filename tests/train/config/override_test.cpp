#include "train/config/override.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/train/config/recipe_text.h"

namespace toroid::config {
namespace {

using test::recipe_text;
using test::refusal;

RunConfig with(const std::vector<std::string>& overrides) {
  return load_text(recipe_text(), "r", overrides).run;
}

std::string refused(const std::string& override) {
  return refusal([&] { with({override}); });
}

TEST(Override, sets_values_of_every_type) {
  const RunConfig run =
      with({"train.steps=99", "train.seed=18446744073709551615", "optim.clip_norm=0.5",
            "train.deterministic=true", "train.precision=FP32", "train.init_from=a dir/x=y"});
  EXPECT_EQ(run.train().steps(), 99);
  EXPECT_EQ(run.train().seed(), 18446744073709551615ULL);
  EXPECT_EQ(run.optim().clip_norm(), 0.5);
  EXPECT_TRUE(run.train().deterministic());
  EXPECT_EQ(run.train().precision(), TrainConfig::FP32);
  EXPECT_EQ(run.train().init_from(), "a dir/x=y");
}

TEST(Override, later_ones_win_and_are_marked) {
  const std::vector<std::string> overrides = {"train.steps=9", "train.steps=10"};
  const Resolved resolved = load_text(recipe_text(), "r", overrides);
  EXPECT_EQ(resolved.run.train().steps(), 10);
  EXPECT_EQ(resolved.origins.at("train.steps"), "--set");
  EXPECT_EQ(resolved.origins.at("optim.schedule.cosine.steps"), "from train.steps");
  EXPECT_EQ(resolved.run.optim().schedule().cosine().steps(), 10);
}

TEST(Override, an_arm_replaces_the_other) {
  const std::vector<std::string> overrides = {"optim.schedule.linear.peak=2e-3"};
  const Resolved resolved = load_text(recipe_text(), "r", overrides);
  EXPECT_EQ(resolved.run.optim().schedule().linear().peak(), 2e-3);
  EXPECT_FALSE(resolved.origins.contains("optim.schedule.cosine.peak"));
}

TEST(Override, lists) {
  RunConfig run = with({"model.window=4", "model.layer_pattern+=LOCAL", "model.layer_pattern+=GLOBAL"});
  EXPECT_EQ(run.model().layer_pattern_size(), 2);
  run = with({"model.window=4", "model.layer_pattern=[GLOBAL, LOCAL]", "model.layer_pattern[0]=LOCAL"});
  EXPECT_EQ(run.model().layer_pattern(0), ModelConfig::LOCAL);
  EXPECT_EQ(run.model().layer_pattern(1), ModelConfig::LOCAL);
  run = with({"model.window=4", "model.layer_pattern[0]=LOCAL"});
  EXPECT_EQ(run.model().layer_pattern_size(), 1);
}

TEST(Override, messages_and_entries_by_name) {
  const RunConfig run =
      with({"optim.schedule.custom={ name: \"x\" parameter { key: \"peak\" value: 1 } }",
            "optim.schedule.custom.parameter[peak].value=3", "optim.schedule.custom.parameter[1].key=more",
            "optim.schedule.custom.parameter[more].value=-1e-2"});
  EXPECT_EQ(run.optim().schedule().custom().parameter_size(), 2);
  EXPECT_EQ(run.optim().schedule().custom().parameter(0).value(), 3);
  EXPECT_EQ(run.optim().schedule().custom().parameter(1).value(), -0.01);
}

TEST(Override, refusals_say_what_is_wrong) {
  const auto has = [](const std::string& override, const std::string& part) {
    const std::string message = refused(override);
    EXPECT_NE(message.find(part), std::string::npos) << override << " -> " << message;
  };
  has("model.d_modle=3",
      "--set model.d_modle=3: model has no field \"d_modle\"; did you mean model.d_model?");
  has("layers=3", "did you mean model.layers?");
  has("trian.steps=3", "did you mean train?");
  has("train.steps", "write it as path=value");
  has("=3", "write it as path=value");
  has("train.steps=many", "train.steps is a whole number, not \"many\"");
  has("train.steps=1.5", "train.steps is a whole number");
  has("train.steps=99999999999999999999", "train.steps cannot hold");
  has("train.seed=-1", "not negative");
  has("optim.clip_norm=nan", "not a finite number");
  has("optim.clip_norm=1e999", "cannot hold");
  has("train.deterministic=maybe", "train.deterministic is true or false");
  has("train.precision=BF61", "did you mean BF16?");
  has("train=3", "train is a message");
  has("train.steps.more=3", "train.steps is a value and has no fields");
  has("train[0].steps=3", "train is not a list");
  has("mesh.torus=4", "mesh.torus is a list");
  has("mesh.torus[3]=4", "mesh.torus has 0 entries; the next is mesh.torus[0]");
  has("mesh.torus[x]=4", "has no entry x");
  has("mesh.torus[0=4", "is not closed");
  has("train..steps=4", "empty name");
  has("optim.ema={ decay: 0.5 } clip_norm: 3", "one value is expected");
  has("mesh.torus=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "deeper than 32");
  has(std::string("train.init_from=a\nb"), "control character");
  has("train.steps+=1", "is not a list");
}

}  // namespace
}  // namespace toroid::config
