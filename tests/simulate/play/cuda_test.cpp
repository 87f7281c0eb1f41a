// `toroid simulate` of a config for GPUs: the memory that a dry run says, which is a GPU's to the byte
// (tests/train/engine/cuda), beside time on a chip that only keeps the clock.
#include <gtest/gtest.h>

#include "simulate/play/chips.h"
#include "simulate/play/simulate.h"
#include "tests/train/engine/cuda/gpus.h"
#include "train/config/load.h"
#include "train/loop/dry_run.h"

namespace toroid::train {
namespace {

TEST(SimulatedGpus, take_what_a_dry_run_says) {
  const Plugins plugins = cuda_plugins();
  const sim::Chip chip = read_chip("h200", "configs/any.textproto");
  for (const std::string mesh : {"mesh { torus: 1 data: 1 }", "mesh { torus: 4 data: 4 }",
                                 "mesh { torus: [2, 2] data: 2 model: 2 }"}) {
    SCOPED_TRACE(mesh);
    const config::RunConfig run =
        config::load_text(
            "device: CUDA\n"
            "model { d_model: 64 layers: 3 heads: 4 kv_heads: 2 head_dim: 16 ffn: 96 vocab: 300 }\n"
            "batch { tokens_per_sequence: 64 global_sequences: 8 sequences_per_replica: 1 }\n"
            "zero { stage: 3 }\n"
            "optim { adamw {} schedule { constant { peak: 1e-3 } } }\n"
            "train { steps: 1 seed: 1 precision: BF16 }\n" +
                mesh,
            "gpus")
            .run;
    const Simulation simulated = simulate(run, chip, plugins);
    const StepRecord dry = record_dry(run, plugins);
    EXPECT_GT(simulated.played.step.count(), 0);
    ASSERT_EQ(simulated.roles.front().rank, 0);
    EXPECT_EQ(simulated.roles.front().placed_bytes, dry.placed_bytes);
    EXPECT_EQ(simulated.roles.front().memory.peak_by_holder, dry.memory.peak_by_holder);
    EXPECT_GT(dry.placed_bytes, int64_t{32} << 20) << "the workspace of cuBLASLt among it";
  }
}

}  // namespace
}  // namespace toroid::train
