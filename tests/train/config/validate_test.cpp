#include <gtest/gtest.h>

#include <vector>

#include "tests/train/config/recipe_text.h"
#include "train/config/load.h"

namespace toroid::config {
namespace {

using test::recipe_text;
using test::refusal;

// What is refused with these overrides, and a part of the sentence that says why.
struct Case {
  std::vector<std::string> overrides;
  std::string why;
};

TEST(Validate, states_the_relation_that_failed_with_both_values) {
  const std::vector<Case> cases = {
      {{"model.heads=6", "model.kv_heads=4"}, "model.heads (6) is not a multiple of model.kv_heads (4)"},
      {{"model.head_dim=7"}, "model.head_dim (7) is odd"},
      {{"model.layers=2147483648"}, "model.layers is 2147483648; it must be between 1 and 1024"},
      {{"model.layers=-1"}, "model.layers is -1"},
      {{"model.parallel_layers=true", "model.post_norms=true"},
       "model.parallel_layers and model.post_norms are both true, but a parallel layer adds"},
      {{"model.d_model=131072", "model.layers=1024", "model.heads=1024", "model.head_dim=4096",
        "model.ffn=1048576"},
       "parameters; more than"},
      {{"model.norm_eps=0"}, "model.norm_eps is 0"},
      {{"model.init.embedding=0"}, "model.init.embedding is 0"},
      {{"model.init.linear=nan"}, "model.init.linear is not a finite number"},
      {{"model.layer_pattern=[LOCAL]"}, "model.window is 0"},
      {{"model.layer_pattern=[GLOBAL, GLOBAL, GLOBAL]"}, "more than model.layers (2)"},
      {{"mesh.torus=[2, 2]", "mesh.data=2"},
       "mesh.data (2) x mesh.model (1) is not the number of chips of mesh.torus (2 x 2)"},
      {{"mesh.torus=[3, 5]", "mesh.data=5", "mesh.model=3"}, "mesh.model (3) is neither whole dimensions"},
      {{"mesh.data=1024", "mesh.pods=1025"}, "is more than 1048576 ranks"},
      {{"mesh.model=3"}, "model.heads (4) is not a multiple of mesh.model (3)"},
      {{"model.ffn=41", "mesh.model=2"}, "model.ffn (41) is not a multiple of mesh.model (2)"},
      {{"train.deterministic=true", "mesh.data=6"}, "mesh.data (6) is not a power of two"},
      {{"train.deterministic=true", "mesh.pods=3"}, "mesh.pods (3) is not a power of two"},
      {{"train.deterministic=true", "model.heads=6", "model.kv_heads=3", "model.ffn=48", "mesh.model=3"},
       "mesh.model (3) is not a power of two"},
      {{"train.deterministic=true", "model.heads=32", "model.ffn=64", "mesh.model=32"},
       "mesh.model (32) is more than 16; train.deterministic cuts heads and ffn"},
      {{"mesh.torus=[1048576, 1048576, 1048576]"}, "mesh.torus (1048576 x 1048576 x 1048576)"},
      {{"zero.stage=4"}, "zero.stage is 4; it must be between 0 and 3"},
      {{"pathways.every_steps=0"}, "pathways.every_steps is 0"},
      {{"pathways.every_steps=4", "pathways.nesterov.momentum=1"}, "pathways.nesterov.momentum is 1"},
      {{"pathways.nesterov.learning_rate=0"}, "pathways.nesterov.learning_rate is 0"},
      {{"pathways.wire=INT4"}, "INT4"},
      {{"pathways.wire=INT8", "mesh.pods=2", "train.deterministic=true"},
       "pathways.wire is INT8, which rounds what each pod sends; train.deterministic sums exactly: use FP32"},
      {{"pathways.every_steps=4", "mesh.pods=3", "batch.global_sequences=4"},
       "batch.global_sequences (4) are not dealt evenly to mesh.pods (3)"},
      {{"pathways.every_steps=4", "mesh.pods=2", "batch.global_sequences=6", "train.deterministic=true"},
       "choose a power of two and a multiple of 2, pods x data"},
      {{"batch.ramp+={ step: 1 global_sequences: 4 }"},
       "batch.ramp[0].step is 1; the first phase begins at step 0"},
      {{"batch.ramp+={ step: 0 }"}, "batch.ramp[0].global_sequences is not set"},
      {{"batch.ramp+={ global_sequences: 0 }"}, "batch.ramp[0].global_sequences is 0"},
      {{"batch.ramp+={ global_sequences: 2 }", "batch.ramp+={ step: 0 global_sequences: 4 }"},
       "batch.ramp[1].step is 0, and batch.ramp[0] begins at step 0; list the phases in the order"},
      {{"batch.ramp+={ global_sequences: 4 }", "batch.ramp+={ step: 5 global_sequences: 4 }"},
       "batch.ramp[1].global_sequences is 4, and batch.ramp[0] has 4; the batches of a ramp grow"},
      {{"batch.ramp+={ global_sequences: 2 }", "batch.ramp+={ step: 5 global_sequences: 8 }"},
       "batch.global_sequences is 4, and batch.ramp ends with 8 sequences; leave it out"},
      {{"pathways.every_steps=4", "mesh.pods=2", "batch.ramp+={ global_sequences: 3 }",
        "batch.ramp+={ step: 5 global_sequences: 4 }"},
       "batch.ramp[0].global_sequences (3) are not dealt evenly to mesh.pods (2)"},
      {{"device=SIM"}, "chip is not set; device: SIM needs one"},
      {{"chip=v5e"}, "only device: SIM has a chip"},
      {{"batch.global_sequences=0"}, "batch.global_sequences is 0"},
      {{"batch.sequences_per_replica=65536", "batch.tokens_per_sequence=1048576"}, "tokens a microbatch"},
      {{"batch.global_sequences=16777216", "batch.tokens_per_sequence=1048576", "train.steps=1000000000000"},
       "more than 2^63 tokens"},
      {{"optim.adamw.beta2=1"}, "optim.adamw.beta2 is 1"},
      {{"optim.schedule.cosine.peak=-1"}, "optim.schedule.cosine.peak is -1"},
      {{"optim.schedule.cosine.warmup=9", "optim.schedule.cosine.steps=8"},
       "warmup (9) is more than its steps (8)"},
      {{"optim.schedule={ warmup_stable_decay { peak: 1 warmup: 5 decay: 4 steps: 8 } }"},
       "warmup (5) + decay (4) is more than its steps (8)"},
      {{"optim.schedule={ }"}, "optim.schedule is not set"},
      {{"optim.schedule.custom.name="}, "optim.schedule.custom.name is not set"},
      {{"optim.ema.decay=1"}, "optim.ema.decay is 1"},
      {{"optim.skip.max_consecutive=0"}, "optim.skip.max_consecutive is 0"},
      {{"train.checkpoint.keep=0"}, "train.checkpoint.keep is 0"},
      {{"train.log.every=0"}, "train.log.every is 0"},
      {{"data={ directory: \"d\" tokenizer { train { vocab: 1000 } } source { name: \"a\" path: \"p\" "
        "format: TEXT } }"},
       "data.tokenizer.train.vocab (1000) is more than model.vocab (96)"},
  };
  for (const Case& c : cases) {
    const std::string message = refusal([&] { load_text(recipe_text(), "r.textproto", c.overrides); });
    EXPECT_NE(message.find(c.why), std::string::npos) << c.overrides.front() << " -> " << message;
  }
}

TEST(Validate, pods_that_train_apart_have_an_outer_optimizer) {
  const std::vector<std::string> overrides{"pathways.every_steps=4"};
  const RunConfig run = load_text(recipe_text(), "r", overrides).run;
  ASSERT_TRUE(run.pathways().has_nesterov());
  EXPECT_EQ(run.pathways().nesterov().learning_rate(), 0.7);
  EXPECT_EQ(run.pathways().nesterov().momentum(), 0.9);
  EXPECT_FALSE(load_text(recipe_text(), "r").run.pathways().has_nesterov());
}

TEST(Validate, says_on_which_line_the_value_stands) {
  const std::string message =
      refusal([] { load_text("\ntrain { steps: -1 }\n" + recipe_text().substr(0, 0), "r"); });
  EXPECT_EQ(message.substr(0, 3), "r: ") << message;  // model.d_model is not set: no line to point to
  const std::string text =
      "batch { tokens_per_sequence: 0\n global_sequences: 4 }\n"
      "model { d_model: 32 layers: 2 heads: 4 head_dim: 8 ffn: 40 vocab: 96 }\n";
  EXPECT_EQ(refusal([&] { load_text(text, "r"); }),
            "r:1: batch.tokens_per_sequence is 0; it must be between 1 and 1048576");
}

TEST(Validate, what_is_missing_is_named) {
  EXPECT_EQ(refusal([] { load_text("", "r"); }),
            "r: model.d_model is not set; it must be between 1 and 131072");
}

TEST(Resolve, what_follows_from_other_values_is_filled_in) {
  const Resolved resolved = load_text(
      "model { d_model: 32 layers: 2 heads: 4 head_dim: 8 ffn: 40 vocab: 96 rope { base: 500 } }\n"
      "batch { tokens_per_sequence: 16 global_sequences: 4 }\n"
      "optim { schedule { warmup_stable_decay { peak: 1e-3 } } }\n"
      "train { steps: 80 }\n",
      "r");
  EXPECT_EQ(resolved.run.model().kv_heads(), 4);
  EXPECT_EQ(resolved.run.model().query_pre_attn_scalar(), 8);
  EXPECT_EQ(resolved.run.model().rope().local_base(), 500);
  EXPECT_EQ(resolved.run.optim().schedule().warmup_stable_decay().steps(), 80);
  EXPECT_EQ(resolved.run.optim().schedule().warmup_stable_decay().decay(), 8);
  EXPECT_TRUE(resolved.run.optim().has_adamw());
  EXPECT_EQ(resolved.origins.at("model.kv_heads"), "from model.heads");
  EXPECT_FALSE(resolved.run.has_data());
}

TEST(Resolve, a_run_may_end_within_its_warm_up) {
  const std::vector<std::string> overrides = {"train.steps=1", "optim.schedule.cosine.warmup=40"};
  const Resolved resolved = load_text(recipe_text(), "r", overrides);
  EXPECT_EQ(resolved.run.optim().schedule().cosine().steps(), 40);
  EXPECT_EQ(resolved.origins.at("optim.schedule.cosine.steps"), "from optim.schedule.cosine.warmup");
  EXPECT_EQ(load_text(recipe_text(), "r", std::vector<std::string>{"train.steps=0"}).run.train().steps(), 0);
}

}  // namespace
}  // namespace toroid::config
