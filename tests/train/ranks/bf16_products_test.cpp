// train.bf16_products: AUTO becomes a value in the resolved config, and the ranks take the first one's.
#include "train/ranks/bf16_products.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/train/config/recipe_text.h"
#include "train/config/changes.h"

namespace toroid::train {
namespace {

using config::TrainConfig;

config::Resolved resolved(const std::vector<std::string>& overrides = {}) {
  return config::load_text(test::recipe_text(), "recipe", overrides);
}

TEST(Bf16ProductsConfig, AutoBecomesWhatTheMachineDoesFast) {
  config::Resolved run = resolved({"train.precision=BF16"});
  EXPECT_EQ(run.run.train().bf16_products(), TrainConfig::AUTO);
  settle_bf16_products(run);
  EXPECT_NE(run.run.train().bf16_products(), TrainConfig::AUTO);
  EXPECT_EQ(bf16_products(run.run.train()), cpu::fastest_products());
  const std::string text = config::to_text(run);
  EXPECT_NE(text.find("bf16_products: " + std::string(name_of(cpu::fastest_products()))), std::string::npos)
      << text;
  EXPECT_NE(text.find("AUTO: what the first rank's processor does fast"), std::string::npos) << text;
  // The stored config says it, and reads back.
  EXPECT_EQ(config::load_text(text, "stored").run.train().bf16_products(), run.run.train().bf16_products());
}

TEST(Bf16ProductsConfig, WhatIsSaidStays) {
  config::Resolved said = resolved({"train.precision=BF16", "train.bf16_products=WIDENED"});
  settle_bf16_products(said);
  EXPECT_EQ(said.run.train().bf16_products(), TrainConfig::WIDENED);
  EXPECT_EQ(said.origins.at("train.bf16_products"), "--set");
  config::Resolved exact = resolved({"train.precision=FP32"});
  settle_bf16_products(exact);
  EXPECT_EQ(exact.run.train().bf16_products(), TrainConfig::AUTO) << "nothing depends on it";
}

TEST(Bf16ProductsConfig, AResumedRunMayTakeTheOtherWay) {
  EXPECT_TRUE(config::may_change("train.bf16_products"));
  EXPECT_FALSE(config::may_differ("train.bf16_products")) << "between the ranks of one run";
}

TEST(Bf16ProductsConfig, WhatTheRanksAgreedOnIsStored) {
  config::Resolved run = resolved({"train.precision=BF16",
                                   "data={ directory: \"bf16_products: AUTO\" tokenizer { "
                                   "model: \"m\" } source { name: \"a\" path: \"p\" "
                                   "format: TEXT } }"});
  std::string text = config::to_text(run);
  settle_bf16_products(run.run, text, Bf16Products::widened);
  EXPECT_EQ(run.run.train().bf16_products(), TrainConfig::WIDENED);
  const config::RunConfig stored = config::load_text(text, "stored").run;
  EXPECT_EQ(stored.train().bf16_products(), TrainConfig::WIDENED);
  EXPECT_EQ(stored.data().directory(), "bf16_products: AUTO");
  EXPECT_EQ(stored.SerializeAsString(), run.run.SerializeAsString());
}

TEST(Bf16ProductsConfig, AllRanksTakeTheFirstOnes) {
  EXPECT_EQ(first_ranks_products({"WIDENED", "NATIVE"}), Bf16Products::widened);
  EXPECT_EQ(first_ranks_products({"NATIVE", "WIDENED"}), Bf16Products::native);
  EXPECT_THROW(first_ranks_products({"AUTO", "NATIVE"}), PeerError);
}

}  // namespace
}  // namespace toroid::train
