// What a dry run says of a GPU's memory, without one: to the byte what a GPU's allocator comes to. And what
// is said of a step that does not fit.
#include <gtest/gtest.h>

#include "core/base/round_up.h"
#include "core/base/text.h"
#include "core/device/cuda/cuda_device.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/engine/cuda/gpus.h"
#include "train/loop/memory_fit.h"

namespace toroid::train {
namespace {

config::RunConfig gpu_config(const std::string& layout, const std::vector<std::string>& sets) {
  std::vector<std::string> all{"device=CUDA", "train.deterministic=false"};
  all.insert(all.end(), sets.begin(), sets.end());
  config::RunConfig run = small_config("heads: 4 kv_heads: 2", all);
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  return run;
}

struct Used {
  Statistics memory;
  int64_t reached = 0;  // up to the highest byte that the GPU's allocator handed out
};

// Two steps of every rank; the first one's memory.
Used use_gpus(const config::RunConfig& run) {
  const mesh::Mesh mesh(run.mesh());
  const StandInGpus machine(mesh.world_size());
  const Plugins plugins = cuda_plugins();
  LocalJob job(mesh.world_size(), {});
  Used out;
  const std::string failures = ::toroid::testing::run_rank_threads(mesh.world_size(), [&](int rank) {
    auto world = job.world(rank);
    auto owner = gpu_of(*world);
    const auto& device = dynamic_cast<const CudaDevice&>(*owner);
    const Engine engine = make_engine(run, std::move(world), std::move(owner), plugins);
    engine.program->initialise(run.train().seed());
    for (int64_t step = 0; step < 2; ++step) {
      engine.program->upload(host_batch(synthetic_batch(run, step)), 1e-3);
      engine.program->step();
    }
    engine.program->meet_pods();
    (void)engine.program->result(0);
    if (rank == 0) out = {engine.device->statistics(), device.arena().reached()};
  });
  EXPECT_EQ(failures, "");
  return out;
}

struct MemoryCase {
  const char* layout;
  std::vector<std::string> sets;
};

TEST(CudaMemory, is_predicted_to_the_byte) {
  const std::vector<MemoryCase> cases{
      {"1x1", {}},
      {"1x1", {"train.remat=FULL", "train.precision=FP32", "batch.sequences_per_replica=2"}},
      {"1x1", {"train.deterministic=true"}},
      {"1x1", {"optim.ema={ decay: 0.9 }", "train.loss.block_tokens=8"}},
      {"2x2 zero 3", {"zero.prefetch=2"}},
      {"model 2 of 2x2 zero 3", {"mesh.overlap=ALWAYS", "train.remat=FULL"}},
      {"model 2 of 2x2 zero 1", {"train.deterministic=true"}},
      {"pods 2 of 1x2 zero 3", {"pathways.wire=BF16"}},
  };
  for (const MemoryCase& one : cases) {
    SCOPED_TRACE(one.layout + ::testing::PrintToString(one.sets));
    const config::RunConfig run = gpu_config(one.layout, one.sets);
    const Used used = use_gpus(run);
    const StepRecord predicted = record_dry(run, cuda_plugins());  // the machine is gone by now
    EXPECT_EQ(predicted.memory.bytes_peak, used.memory.bytes_peak);
    EXPECT_EQ(predicted.memory.peak_by_holder, used.memory.peak_by_holder);
    EXPECT_EQ(predicted.placed_bytes, used.reached);
    EXPECT_GE(used.reached, used.memory.bytes_peak);
  }
}

TEST(CudaMemory, counts_the_library_s_workspace) {
  const auto of = [](const char* deterministic) {
    return record_dry(gpu_config("1x1", {std::string("train.deterministic=") + deterministic}),
                      cuda_plugins())
        .memory.bytes_peak;
  };
  constexpr int64_t kWorkspace = int64_t{32} << 20;
  EXPECT_GT(of("false"), kWorkspace);
  EXPECT_LT(of("true"), kWorkspace) << "deterministic products do not ask the library";
}

int64_t bytes_of(const config::RunConfig& run) {
  return record_dry(run, cuda_plugins()).placed_bytes;
}

std::string refusal_of(const config::RunConfig& run, int64_t bytes) {
  const StandInGpus machine(1);
  const Plugins plugins = cuda_plugins(bytes);
  const auto world = make_single_world();
  const DeviceMaker& maker = plugins.device(run);
  const auto device = maker.make(maker.kernels(1, Bf16Products::widened), world.get());
  try {
    check_memory(run, *world, *device, plugins);
  } catch (const UserError& error) {
    return error.what();
  }
  return "none";
}

TEST(CudaMemory, that_is_not_enough_is_told_before_the_first_step) {
  const config::RunConfig run = gpu_config("1x1", {"train.remat=NONE", "batch.tokens_per_sequence=512",
                                                   "batch.sequences_per_replica=4", "model.layers=6"});
  const int64_t bytes = bytes_of(run);
  EXPECT_EQ(refusal_of(run, round_up(bytes, int64_t{512})), "none");
  const std::string little = refusal_of(run, bytes - (int64_t{4} << 20));
  EXPECT_NE(little.find("a step takes " + human_bytes(bytes) + " of the device's memory"), std::string::npos)
      << little;
  config::RunConfig less = run;
  less.mutable_batch()->set_sequences_per_replica(1);
  EXPECT_NE(little.find("; with batch.sequences_per_replica=1 it takes " + human_bytes(bytes_of(less))),
            std::string::npos)
      << little;
  EXPECT_NE(little.find("the largest holders are "), std::string::npos) << little;
  const std::string none = refusal_of(run, int64_t{1} << 20);
  EXPECT_NE(none.find("split the model or its state over more ranks"), std::string::npos) << none;
}

// What is said to fit does.
TEST(MemoryRemedy, is_the_first_change_that_is_enough_or_as_many_as_it_takes) {
  const config::RunConfig run =
      gpu_config("2x1 zero 1", {"train.remat=NONE", "batch.sequences_per_replica=2"});
  // A sequence more takes 100, a stage of ZeRO less 10, activations that stay 5.
  const auto bytes = [](const config::RunConfig& of) {
    return 100 * of.batch().sequences_per_replica() + 10 * (3 - of.zero().stage()) +
           5 * (2 - static_cast<int64_t>(of.train().remat()));
  };
  ASSERT_EQ(bytes(run), 230);
  EXPECT_EQ(memory_remedy(run, 130, bytes)->text, "batch.sequences_per_replica=1");
  EXPECT_EQ(memory_remedy(run, 225, bytes)->text, "batch.sequences_per_replica=1");
  EXPECT_EQ(memory_remedy(run, 110, bytes)->text, "batch.sequences_per_replica=1 and zero.stage=3");
  EXPECT_EQ(memory_remedy(run, 100, bytes)->text,
            "batch.sequences_per_replica=1 and zero.stage=3 and train.remat=FULL");
  EXPECT_EQ(memory_remedy(run, 100, bytes)->bytes, 100);
  EXPECT_FALSE(memory_remedy(run, 99, bytes));
}

}  // namespace
}  // namespace toroid::train
