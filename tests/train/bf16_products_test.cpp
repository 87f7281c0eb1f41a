// train.bf16_products: AUTO becomes a value in the resolved config, and the ranks take the first one's.
#include "train/bf16_products.h"

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
  EXPECT_EQ(run.run.train().bf16_products(), to_config(cpu::fastest_products()));
  const std::string text = config::to_text(run);
  EXPECT_NE(text.find("bf16_products: " + std::string(name_of(cpu::fastest_products()))), std::string::npos)
      << text;
  EXPECT_NE(text.find("AUTO, what this processor does fast"), std::string::npos) << text;
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
  const config::RunConfig before = resolved({"train.bf16_products=NATIVE"}).run,
                          after = resolved({"train.bf16_products=WIDENED"}).run;
  EXPECT_TRUE(config::changes(before, after).empty());
}

// One rank of two, whose first rank says `said`.
class TwoRanks final : public World {
 public:
  TwoRanks(int rank, std::string said) : World(rank, 2, {0, 1}), said_(std::move(said)) {}
  std::string from_first(const std::string& text) override { return rank() == 0 ? text : said_; }

 private:
  std::string said_;
};

TEST(Bf16ProductsConfig, AllRanksTakeTheFirstOnes) {
  TrainConfig train;
  train.set_bf16_products(TrainConfig::WIDENED);
  TwoRanks first(0, ""), second(1, "WIDENED"), broken(1, "AUTO");
  EXPECT_EQ(agreed_bf16_products(first, train), Bf16Products::widened);
  train.set_bf16_products(TrainConfig::AUTO);
  EXPECT_EQ(agreed_bf16_products(second, train), Bf16Products::widened);
  EXPECT_THROW(agreed_bf16_products(broken, train), InternalError);
  TwoRanks native(1, "NATIVE");
  if (cpu::has_native_products()) {
    EXPECT_EQ(agreed_bf16_products(native, train), Bf16Products::native);
  } else {
    const std::string why = test::refusal([&] { (void)agreed_bf16_products(native, train); });
    EXPECT_NE(why.find("rank 1's processor has no bf16 instructions"), std::string::npos) << why;
  }
}

}  // namespace
}  // namespace toroid::train
