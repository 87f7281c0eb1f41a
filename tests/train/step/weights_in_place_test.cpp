// Products that read weights where they lie, instead of a packed copy: the same numbers, to the bit, and no
// more memory. Under the reference kernels, which know no packed layout, so that nothing but where the
// weights are differs.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/device/reference_device.h"
#include "tests/train/certify/local_layout.h"
#include "train/certify/layout.h"

namespace toroid::train {
namespace {

struct Trained {
  std::vector<double> losses;
  std::map<std::string, std::vector<std::byte>> parts;  // masters, moments
  int64_t peak = 0, packed = 0;                         // bytes, also of packed weights at the peak
  int64_t padding = 0;  // and what units that lie in place have beside their matrices
};

std::shared_ptr<const DeviceKernels> kernels(bool packs) {
  auto out = std::make_shared<DeviceKernels>();
  add_reference_kernels(*out);
  out->traits.packs = packs;
  return out;
}

// Whether the tensors of each matrix follow each other without gaps.
bool lies_in_place(const Unit& unit) {
  for (const auto& pack : unit.spec.packs) {
    for (size_t i = 1; i < pack.tensors.size(); ++i) {
      const Slice& before = unit.slices[static_cast<size_t>(pack.tensors[i - 1])];
      if (unit.slices[static_cast<size_t>(pack.tensors[i])].offset != before.offset + before.shape.elements())
        return false;
    }
  }
  return true;
}

Trained run_rank(const config::RunConfig& run, std::unique_ptr<World> world, std::unique_ptr<Device> device) {
  const Plugins plugins;
  const Engine engine = make_engine(run, std::move(world), std::move(device), plugins);
  engine.program->initialise(run.train().seed());
  Trained out;
  for (int64_t step = 0; step < 3; ++step) {
    engine.program->upload(host_batch(synthetic_batch(run, step)), 1e-2);
    engine.program->step();
    out.losses.push_back(engine.program->result(0).loss);
  }
  for (const NamedTensor& part : engine.program->zero().parts()) {
    std::vector<std::byte>& bytes = out.parts[part.name + " " + part.part + " " + std::to_string(part.first)];
    bytes.resize(static_cast<size_t>(part.tensor.bytes()));
    engine.device->read(part.tensor, bytes);
  }
  for (const Unit& unit : engine.program->zero().units()) {
    if (!lies_in_place(unit)) continue;
    int64_t beside = unit.flat_elements;
    for (const Slice& slice : unit.slices) beside -= slice.shape.rank() == 2 ? slice.shape.elements() : 0;
    out.padding += beside * (run.train().precision() == config::TrainConfig::FP32 ? 4 : 2);
  }
  const Statistics& memory = engine.device->statistics();
  out.peak = memory.bytes_peak;
  const auto packed = memory.peak_by_holder.find("packed weights");
  out.packed = packed == memory.peak_by_holder.end() ? 0 : packed->second;
  return out;
}

std::vector<Trained> train(const config::RunConfig& run, int ranks, bool packs) {
  std::vector<Trained> out(static_cast<size_t>(ranks));
  LocalJob job(ranks, {});
  EXPECT_EQ(testing::run_rank_threads(ranks,
                                      [&](int rank) {
                                        out[static_cast<size_t>(rank)] = run_rank(
                                            run, job.world(rank),
                                            std::make_unique<CpuDevice>(
                                                kernels(packs), std::make_shared<cpu::TransferThread>()));
                                      }),
            "");
  return out;
}

config::RunConfig config_of(const std::string& layout_text, const std::string& model,
                            const std::vector<std::string>& sets) {
  config::RunConfig run = small_config(model, sets);
  run.mutable_batch()->set_global_sequences(4);
  parse_layouts(layout_text)[0].apply(run);
  config::validate(run);
  return run;
}

struct Model {
  const char* name;
  const char* text;
  std::vector<std::string> sets;
  bool fills_blocks = false;  // matrices have no gaps between them
};

std::vector<Model> models() {
  return {
      {"gqa", "heads: 4 kv_heads: 2", {}},
      {"of whole blocks",
       "heads: 4 kv_heads: 4",
       {"model.d_model=64", "model.head_dim=16", "model.ffn=128", "model.vocab=128"},
       true},
  };
}

class WeightsInPlace : public ::testing::TestWithParam<const char*> {};

TEST_P(WeightsInPlace, GiveTheSameNumbersInNoMoreMemory) {
  const Layout layout = parse_layouts(GetParam())[0];
  for (const Model& model : models()) {
    for (const int bits : {0, 3, 5, 6}) {  // every pair of the three
      const bool bf16 = (bits & 1) != 0, deterministic = (bits & 2) != 0, reshard = (bits & 4) != 0;
      SCOPED_TRACE(std::string(GetParam()) + ", " + model.name + (bf16 ? ", bf16" : ", fp32") +
                   (deterministic ? ", deterministic" : "") + (reshard ? ", reshard" : ""));
      std::vector<std::string> sets = model.sets;
      sets.push_back(bf16 ? "train.precision=BF16" : "train.precision=FP32");
      sets.push_back(deterministic ? "train.deterministic=true" : "train.deterministic=false");
      sets.push_back(reshard ? "zero.reshard_after_forward=true" : "zero.reshard_after_forward=false");
      const config::RunConfig run = config_of(GetParam(), model.text, sets);
      const std::vector<Trained> packed = train(run, layout.ranks(), true);
      const std::vector<Trained> in_place = train(run, layout.ranks(), false);
      ASSERT_FALSE(packed[0].parts.empty());  // the last shards may be padding alone
      for (size_t rank = 0; rank < packed.size(); ++rank) {
        EXPECT_EQ(in_place[rank].losses, packed[rank].losses) << "rank " << rank;
        EXPECT_TRUE(in_place[rank].parts == packed[rank].parts) << "rank " << rank;
        EXPECT_LE(in_place[rank].peak, packed[rank].peak + packed[rank].padding) << "rank " << rank;
        EXPECT_LE(in_place[rank].packed, packed[rank].packed) << "rank " << rank;
        // Instead of two copies of weights that stay, the one that is gathered.
        const bool stays = run.zero().stage() < 3 || layout.ranks() == 1;
        if (model.fills_blocks && stays && (layout.ranks() > 1 || !bf16)) {
          EXPECT_LT(in_place[rank].packed, packed[rank].packed / 4) << "rank " << rank;
          EXPECT_LT(in_place[rank].peak, packed[rank].peak) << "rank " << rank;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, WeightsInPlace,
                         ::testing::Values("1x1", "1x2", "1x4", "1x2 zero 1", "1x2 zero 2", "model 2 of 1x2",
                                           "model 2 of 2x2"),
                         [](const auto& layout) {
                           std::string name = layout.param;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

}  // namespace
}  // namespace toroid::train
