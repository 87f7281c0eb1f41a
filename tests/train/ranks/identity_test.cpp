#include "train/ranks/identity.h"

#include <gtest/gtest.h>

#include "tests/train/config/recipe_text.h"
#include "train/config/changes.h"
#include "train/config/load.h"

namespace toroid::train {
namespace {

using test::recipe_text;

config::Resolved resolved(const std::vector<std::string>& overrides = {}) {
  return config::load_text(recipe_text(), "r", overrides);
}

RunIdentity of(const std::vector<std::pair<std::string, std::string>>& parts) {
  RunIdentity out;
  for (const auto& [name, value] : parts) out.add(name, value);
  return out;
}

TEST(RunIdentity, HasEveryValueButThoseOfARank) {
  const RunIdentity identity = identity_of(resolved({"train.seed=9"}).run);
  EXPECT_EQ(*identity.find("train.seed"), "9");
  EXPECT_EQ(*identity.find("optim.adamw.beta2"), "0.95");
  EXPECT_NE(identity.find("program"), nullptr);
  EXPECT_EQ(identity.find("train.threads"), nullptr);
  EXPECT_EQ(identity.digest(), identity_of(resolved({"train.seed=9", "train.threads=7"}).run).digest());
  for (const char* other : {"train.seed=8", "train.steps=9", "train.deadline_s=5", "train.checkpoint.every=3",
                            "train.validate.sequences=1", "train.precision=FP32", "model.activation=SILU",
                            "model.rope.base=500000", "optim.clip_norm=0.01"}) {
    EXPECT_NE(identity.digest(), identity_of(resolved({"train.seed=9", other}).run).digest()) << other;
  }
}

TEST(RunIdentity, SaysWhichValuesArePlacesOrOfARank) {
  for (const char* path : {"train.threads", "train.trace.after", "train.log.every", "train.init_from",
                           "data.directory", "data.corpus", "data.threads", "data.tokenizer.model",
                           "data.source[3].path", "mesh.collective[0].way"}) {
    EXPECT_TRUE(config::may_differ(path)) << path;
  }
  for (const char* path : {"train.seed", "train.threadsafe", "data.source[0].weight", "data.source[0].name",
                           "data.tokenizer.train.vocab", "mesh.data", "zero.stage", "train.deadline_s"}) {
    EXPECT_FALSE(config::may_differ(path)) << path;
  }
  EXPECT_TRUE(config::may_change("mesh.torus[1]"));
  EXPECT_TRUE(config::may_change("train.keep_gathered"));
  EXPECT_FALSE(config::may_change("train.seed"));
}

TEST(RunIdentity, NamesWhatDiffersInOrder) {
  const RunIdentity a = of({{"x", "1"}, {"y", "2"}, {"gone", "3"}});
  const RunIdentity b = of({{"new", "4"}, {"x", "1"}, {"y", "5"}});
  const auto found = differences(a, b);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].name, "y");
  EXPECT_EQ(*found[0].before, "2");
  EXPECT_EQ(*found[0].after, "5");
  EXPECT_EQ(found[1].name, "gone");
  EXPECT_FALSE(found[1].after);
  EXPECT_EQ(found[2].name, "new");
  EXPECT_FALSE(found[2].before);
  EXPECT_TRUE(differences(a, a).empty());
}

TEST(RunIdentity, OneSentenceNamesRankFieldAndBothValues) {
  const RunIdentity same = of({{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(disagreement({same, same, same}), "");
  EXPECT_EQ(disagreement({same, same, of({{"a", "1"}, {"b", "\x1b[2J"}})}),
            "rank 2 has b \\x1b[2J and rank 0 has 2");
  EXPECT_EQ(
      disagreement({same, of({{"a", "7"}, {"b", "8"}}), of({{"a", "9"}, {"b", "2"}})}),
      "rank 1 has a 7 and rank 0 has 1, one of 2 values that differ, and 1 more rank differs from rank 0");
  EXPECT_EQ(disagreement({same, of({{"a", "1"}})}), "rank 1 has no b and rank 0 has 2");
  EXPECT_EQ(disagreement({of({{"a", "1"}}), same}), "rank 1 has b 2 and rank 0 has none");
}

TEST(RunIdentity, TravelsAsText) {
  const RunIdentity identity = of({{"quoted \"name\"", "line\nbreak \xc3\xa9"}, {"", ""}});
  EXPECT_EQ(identity_from(to_text(identity), "t").parts, identity.parts);
  EXPECT_THROW((void)identity_from("{}", "t"), UserError);
  EXPECT_THROW((void)identity_from("[[1,2]]", "t"), UserError);
}

class SavedIdentity : public testing::Test {
 protected:
  static RunIdentity identity(const std::vector<std::string>& overrides, const std::string& tokens = "ab12",
                              const std::string& instructions = "AVX2") {
    RunIdentity out = identity_of(resolved(overrides).run);
    out.add("instructions", instructions);
    out.add("data.source[a].train_tokens", tokens);
    return out;
  }
  static CheckpointState saved(const std::vector<std::string>& overrides) {
    CheckpointState state;
    state.config = config::to_text(resolved(overrides));
    store(identity(overrides), state.texts);
    return state;
  }
};

TEST_F(SavedIdentity, IsTheManifestsBesideItsConfig) {
  const CheckpointState state = saved({});
  EXPECT_EQ(state.texts.at("identity"), identity({}).digest());
  EXPECT_EQ(state.texts.at("identity.data.source[a].train_tokens"), "ab12");
  EXPECT_FALSE(state.texts.contains("identity.train.seed"));
}

TEST_F(SavedIdentity, GoesOnWithWhatDoesNotDecideTheWeights) {
  const Changes found =
      changes_since(saved({}), resolved().run,
                    identity({"train.checkpoint.every=9", "train.remat=FULL", "train.threads=7"}));
  EXPECT_TRUE(found.of_weights.empty());
  EXPECT_TRUE(found.of_machine.empty());
}

TEST_F(SavedIdentity, EachChangeIsNamed) {
  const Changes found = changes_since(
      saved({}), resolved().run, identity({"optim.adamw.beta1=0.8", "model.activation=SILU"}, "cd34", "AMX"));
  EXPECT_EQ(found.of_weights, (std::vector<std::string>{"model.activation was GELU_TANH and is SILU",
                                                        "optim.adamw.beta1 was 0.9 and is 0.8",
                                                        "data.source[a].train_tokens was ab12 and is cd34"}));
  EXPECT_EQ(found.of_machine, (std::vector<std::string>{"instructions was AVX2 and is AMX"}));
}

TEST_F(SavedIdentity, OlderManifestsHaveTheConfigAlone) {
  CheckpointState state = saved({});
  std::erase_if(state.texts, [](const auto& text) { return text.first.starts_with("identity"); });
  EXPECT_TRUE(changes_since(state, resolved().run, identity({}, "other")).of_weights.empty());
  EXPECT_EQ(changes_since(state, resolved().run, identity({"train.seed=5"})).of_weights,
            (std::vector<std::string>{"train.seed was 1 and is 5"}));
}

}  // namespace
}  // namespace toroid::train
