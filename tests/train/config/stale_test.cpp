// Values that were derived once, stored, and left behind.
#include "train/config/stale.h"

#include <gtest/gtest.h>

#include "tests/train/config/recipe_text.h"

namespace toroid::config {
namespace {

// A recipe that leaves everything out which can be derived, as a run stores it; then overrides.
Resolved stored(const std::string& schedule, const std::vector<std::string>& overrides,
                const std::vector<std::string>& first = {}) {
  const std::string recipe =
      "model { d_model: 32 layers: 2 heads: 4 head_dim: 8 ffn: 40 vocab: 96 rope { base: 20000 } }\n"
      "batch { tokens_per_sequence: 16 global_sequences: 4 }\n"
      "optim { schedule { " +
      schedule +
      " } }\n"
      "train { steps: 60 }\n";
  return load_text(to_text(load_text(recipe, "recipe", first)), "stored", overrides);
}

const std::string kCosine = "cosine { peak: 1e-3 warmup: 2 }";

std::vector<std::string> paths(const Resolved& resolved) {
  std::vector<std::string> all;
  for (const StaleValue& stale : stale_values(resolved)) all.push_back(stale.path);
  return all;
}

using Paths = std::vector<std::string>;

TEST(Stale, NothingIsWhileItsSourceStays) {
  EXPECT_EQ(paths(load_text(test::recipe_text(), "recipe", std::vector<std::string>{"train.steps=9"})),
            Paths{});
  EXPECT_EQ(paths(stored(kCosine, {})), Paths{});
  EXPECT_EQ(paths(stored(kCosine, {"train.seed=5", "optim.clip_norm=0"})), Paths{});
}

TEST(Stale, EachDerivedValueIsFoundByName) {
  EXPECT_EQ(paths(stored(kCosine, {"train.steps=90"})), Paths{"optim.schedule.cosine.steps"});
  EXPECT_EQ(paths(stored(kCosine, {"train.steps=30"})), Paths{"optim.schedule.cosine.steps"});
  EXPECT_EQ(paths(stored("linear { peak: 1 }", {"train.steps=90"})), Paths{"optim.schedule.linear.steps"});
  EXPECT_EQ(paths(stored(kCosine, {"model.heads=8"})), Paths{"model.kv_heads"});
  EXPECT_EQ(paths(stored(kCosine, {"model.head_dim=16"})), Paths{"model.query_pre_attn_scalar"});
  EXPECT_EQ(paths(stored(kCosine, {"model.rope.base=10000"})), Paths{"model.rope.local_base"});
  // The decay follows the schedule's steps, which stay until they are set.
  const std::string stable = "warmup_stable_decay { peak: 1 }", at = "optim.schedule.warmup_stable_decay.";
  EXPECT_EQ(paths(stored(stable, {"train.steps=90"})), Paths{at + "steps"});
  EXPECT_EQ(paths(stored(stable, {"train.steps=90", at + "steps=90"})), Paths{at + "decay"});
  EXPECT_EQ(paths(stored(stable, {"train.steps=90", at + "steps=90", at + "decay=6"})), Paths{});
  // A warm-up longer than the run decided on the length.
  EXPECT_EQ(paths(stored(kCosine, {"optim.schedule.cosine.warmup=20"}, {"optim.schedule.cosine.warmup=80"})),
            Paths{"optim.schedule.cosine.steps"});
}

TEST(Stale, AnArmThatWasChosenIsFoundToo) {
  EXPECT_EQ(paths(stored(kCosine, {"pathways.every_steps=1"}, {"pathways.every_steps=4"})),
            (Paths{"pathways.nesterov.learning_rate", "pathways.nesterov.momentum"}));
  EXPECT_EQ(paths(stored(kCosine, {"pathways.every_steps=8"}, {"pathways.every_steps=4"})), Paths{});
}

TEST(Stale, ItStaysAndIsSaidUntilItIsSet) {
  const Resolved changed = stored(kCosine, {"model.heads=8"});
  EXPECT_EQ(changed.run.model().kv_heads(), 4);
  const auto stale = stale_values(changed);
  ASSERT_EQ(stale.size(), 1u);
  EXPECT_EQ(to_text(stale[0]),
            "model.kv_heads is 4, which followed from model.heads; that is now 8, from which 8 would follow, "
            "but it "
            "stays; set model.kv_heads=8 to let it follow, or model.kv_heads=4 to keep it");
  // Stored once more, with the same origin, and read back.
  EXPECT_EQ(paths(load_text(to_text(changed), "again")), Paths{"model.kv_heads"});
  EXPECT_EQ(paths(stored(kCosine, {"model.heads=8", "model.kv_heads=4"})), Paths{});
}

TEST(Stale, OnlyACommentThatNamesAFieldIsAnOrigin) {
  const std::string text =
      test::recipe_text() + "zero { stage: 1 } # from the paper\nmesh { data: 2 } # from nowhere\n";
  const Resolved resolved = load_text(text, "recipe");
  EXPECT_EQ(resolved.origins.at("zero.stage"), "recipe:5");
  EXPECT_EQ(resolved.origins.at("mesh.data"), "recipe:6");
  EXPECT_EQ(paths(resolved), Paths{});
}

}  // namespace
}  // namespace toroid::config
