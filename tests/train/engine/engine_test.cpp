// What makes a run's objects refuses a device that cannot do its work, before it begins.
#include "train/engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/device/sim/recording_device.h"
#include "core/op/elementwise.h"
#include "core/op/kinds.h"
#include "core/op/loss.h"
#include "core/op/norm.h"
#include "core/op/update.h"
#include "train/config/load.h"

namespace toroid::train {
namespace {

config::RunConfig run() {
  return config::load_text(R"(
      model { d_model: 16 layers: 1 heads: 2 kv_heads: 1 head_dim: 8 ffn: 16 vocab: 64 }
      batch { tokens_per_sequence: 8 global_sequences: 2 sequences_per_replica: 1 }
      optim { adamw {} schedule { constant { peak: 1e-3 } } }
      train { steps: 1 seed: 1 })",
                           "tiny", {})
      .run;
}

// The reference kernels without some.
std::unique_ptr<Device> device_without(const std::vector<const OpKind*>& kinds) {
  KernelRegistry all;
  add_reference_kernels(all);
  auto some = std::make_shared<KernelRegistry>();
  for (const OpKind* kind : op::all_kinds()) {
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) some->add(*kind, *all.find(*kind));
  }
  return std::make_unique<RecordingDevice>(some);
}

TEST(Engine, names_every_primitive_kind_that_the_device_lacks) {
  const Plugins plugins;
  try {
    (void)make_engine(run(), make_single_world(),
                      device_without({&op::decide_kind, &op::cast_kind, &op::loss_kind}), plugins);
    FAIL() << "a device without decide and cast was taken";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("'recorder' lacks kernels for cast, decide, which"), std::string::npos) << text;
  }
}

// Fused kinds are not missed: the step is made of their parts.
TEST(Engine, takes_a_device_that_lacks_fused_kinds) {
  const Plugins plugins;
  const auto launched = [&](const std::vector<const OpKind*>& without) {
    Engine engine = make_engine(run(), make_single_world(), device_without(without), plugins);
    auto& recorder = static_cast<RecordingDevice&>(*engine.device);
    engine.program->initialise(1);
    engine.program->upload(host_batch(synthetic_batch(run(), 0)), 0);
    recorder.clear();
    engine.program->step();
    std::map<std::string, int> count;
    for (const Record& record : recorder.records()) {
      if (record.kind == Record::Kind::launch) ++count[std::string(record.op)];
    }
    return count;
  };
  auto fused = launched({}),
       parts = launched({&op::residual_norm_kind, &op::residual_add_kind, &op::loss_grad_kind});
  EXPECT_GT(fused["residual_norm"], 0);
  EXPECT_GT(fused["loss_grad"], 0);
  EXPECT_EQ(parts["residual_norm"] + parts["residual_add"] + parts["loss_grad"], 0);
  EXPECT_EQ(parts["loss_part_grad"], fused["loss_grad"]);
  EXPECT_EQ(parts["rms_norm"], fused["rms_norm"] + fused["residual_norm"]);
  EXPECT_EQ(parts["add"], fused["add"] + fused["residual_norm"] + fused["residual_add"]);
}

}  // namespace
}  // namespace toroid::train
