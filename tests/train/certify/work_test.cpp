// The closed form of a rank's work against what the step program issues, for many models, layouts and
// options; and that work which was split otherwise is found, whether or not the results are right.
#include "train/certify/work.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/comm/communicator.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/certify/passed_on.h"

namespace toroid::train {
namespace {

// What one rank issues in a step that never runs.
RankWork dry_work(const config::RunConfig& run, int rank) {
  const Plugins plugins;
  auto device = std::make_unique<RecordingDevice>(plugins.cpu().kernels(1, cpu::fastest_products()));
  RecordingDevice& recorder = *device;
  const auto ranks = static_cast<int>(mesh::Mesh(run.mesh()).world_size());
  const Engine engine = make_engine(run, make_recorded_world(rank, ranks), std::move(device), plugins);
  engine.program->initialise(1);
  engine.program->upload(host_batch(synthetic_batch(run, 0)), 0);
  recorder.clear();
  engine.program->step();
  return recorded_work(recorder.records());
}

struct Model {
  const char *name, *text;
};

class WorkOfModel : public ::testing::TestWithParam<Model> {};

const std::vector<std::vector<std::string>>& option_sets() {
  static const std::vector<std::vector<std::string>> kSets{
      {},
      {"train.precision=FP32", "zero.stage=2"},
      {"train.remat=FULL", "zero.prefetch=0"},
      {"train.remat=CHEAP", "zero.stage=1", "batch.global_sequences=5"},
      {"zero.stage=0", "train.remat=FULL", "batch.global_sequences=13"},
      {"zero.reshard_after_forward=false", "batch.global_sequences=24"},
      {"zero.reshard_after_forward=false", "zero.prefetch=0", "train.remat=FULL"},
      {"zero.prefetch=2", "zero.max_live=20000"},
      {"zero.prefetch=3", "train.remat=FULL"},
      {"zero.prefetch=4", "zero.reshard_after_forward=false"},
      {"zero.prefetch=40"},
      {"zero.prefetch=40", "train.remat=FULL", "zero.max_live=1"},
      {"zero.whole_below=9000", "zero.wire=BF16"},
      {"batch.sequences_per_replica=2", "batch.global_sequences=21"},
  };
  return kSets;
}

TEST_P(WorkOfModel, IsWhatTheProgramIssues) {
  const auto layouts = parse_layouts(
      "1x1; 2x1; 3x1; 2x2; pods 2 of 2x1; pods 3 of 1x1; model 2 of 1x2; model 2 of 2x2; model 3 of 1x3; "
      "model 4 of 2x2; model 4 of 2x4; pods 2 of model 2 of 2x2");
  int checked = 0;
  for (const Layout& layout : layouts) {
    for (const std::vector<std::string>& sets : option_sets()) {
      for (const bool deterministic : {false, true}) {
        config::RunConfig run = small_config(GetParam().text, sets);
        run.mutable_train()->set_deterministic(deterministic);
        layout.apply(run);
        RankWork first;
        try {
          config::validate(run);
          first = dry_work(run, 0);
        } catch (const UserError&) {
          continue;  // what this model or mode cannot be split into
        }
        SCOPED_TRACE(layout.text() + (deterministic ? " deterministic" : " fast") +
                     (sets.empty() ? "" : " " + sets[0]) + (sets.size() > 1 ? " " + sets[1] : ""));
        const RankWork planned = planned_work(run).of_a_rank();
        ASSERT_EQ(first.flops, planned.flops);
        ASSERT_EQ(first.bytes, planned.bytes);
        ASSERT_EQ(dry_work(run, layout.ranks() - 1), planned) << "of the last rank";
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 200) << "most of them can be split";
}

INSTANTIATE_TEST_SUITE_P(
    Family, WorkOfModel,
    ::testing::Values(
        Model{"mqa", "heads: 4 kv_heads: 1"}, Model{"gqa", "heads: 4 kv_heads: 2"},
        Model{"mha_untied", "heads: 4 kv_heads: 4 tied_head: false"},
        Model{"plain", "heads: 4 kv_heads: 4 mlp: PLAIN activation: RELU tied_head: false"},
        Model{"gemma2", "heads: 4 kv_heads: 2 post_norms: true window: 6 layer_pattern: [LOCAL, GLOBAL]"},
        Model{"gemma3",
              "heads: 4 kv_heads: 1 post_norms: true qk_norm: true window: 7 layer_pattern: [LOCAL, GLOBAL]"},
        Model{"parallel", "heads: 4 kv_heads: 2 parallel_layers: true"},
        Model{"parallel_plain_mqa", "heads: 4 kv_heads: 1 parallel_layers: true mlp: PLAIN qk_norm: true"},
        Model{"straddling", "heads: 12 kv_heads: 2"}, Model{"uneven", "heads: 12 kv_heads: 6"}),
    [](const auto& c) { return c.param.name; });

TEST(Work, AllRanksOfALargePodHaveTheSame) {
  config::RunConfig run = small_config("heads: 16 kv_heads: 1");
  parse_layouts("model 16 of 16x16")[0].apply(run);
  const RankWork planned = planned_work(run).of_a_rank();
  for (const int rank : {0, 17, 255}) EXPECT_EQ(dry_work(run, rank), planned) << rank;
}

TEST(Work, CopiesAndPaddingAreListed) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 1", {"batch.global_sequences=5", "zero.stage=1"});
  parse_layouts("pods 2 of model 2 of 2x2")[0].apply(run);
  const PlannedWork planned = planned_work(run);
  std::string text;
  for (const std::string& line : describe(planned)) text += line + "\n";
  for (const char* wanted :
       {"20 tokens of a sequence count as 32", "5 sequences count as 8",
        "90 rows of the vocabulary count as 92", "all 1 key/value heads are held by each of 2 model ranks",
        "weights and gradients are held by each of 2 data ranks", "every pod of 2 holds the whole model",
        "data axis: all_gather", "model axis: ", "pod axis: ", "all 8 ranks"}) {
    EXPECT_NE(text.find(wanted), std::string::npos) << wanted << " in\n" << text;
  }
  EXPECT_GT(planned.ranks * planned.of_a_rank().all_flops(), planned.needed_flops);
  run.clear_mesh();
  run.mutable_train()->set_deterministic(false);
  run.mutable_batch()->set_global_sequences(4);
  const PlannedWork one = planned_work(run);
  EXPECT_EQ(one.of_a_rank().all_flops(), one.needed_flops) << "one rank pads nothing";
  EXPECT_TRUE(one.of_a_rank().bytes.empty());
}

std::vector<std::string> findings(config::RunConfig run, const LayoutRun& ran, const std::string& layout) {
  parse_layouts(layout)[0].apply(run);
  return compare_work(planned_work(run), ran.work);
}

class WrongSplit : public ::testing::Test {
 protected:
  WrongSplit() : run_(certified_config(small_config("heads: 4 kv_heads: 2"), parse_layouts("2x2"), 1)) {}
  config::RunConfig run_;
};

TEST_F(WrongSplit, AnotherLayoutsWorkIsNotThisOnes) {
  const LayoutRun ran = run_locally(run_, parse_layouts("2x2")[0]);
  EXPECT_TRUE(findings(run_, ran, "2x2").empty()) << findings(run_, ran, "2x2")[0];
  EXPECT_TRUE(findings(run_, ran, "4x1").empty());
  for (const char* other : {"2x2 zero 0", "2x2 zero 1", "model 2 of 2x2", "pods 2 of 2x1", "2x1"}) {
    EXPECT_FALSE(findings(run_, ran, other).empty()) << other;
  }
}

// Sums on every rank and keeps the own rows: the right bits, and twice the bytes.
class SummedWhole final : public PassedOn {
 public:
  SummedWhole(std::unique_ptr<Communicator> inner, Device& device) : PassedOn(std::move(inner), device) {}
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override {
    PassedOn::all_reduce(in.tensor, Combine::sum, wire, label);
    in.tensor = own(in.tensor);
    return in;
  }
};

TEST_F(WrongSplit, WholeGradientsOnEveryRankAreFoundThoughTheBitsAreRight) {
  const Layout layout = parse_layouts("2x2")[0];
  const LayoutRun right = run_locally(run_, layout);
  const LayoutRun ran = run_locally(run_, layout, [](AxisGroups groups, Device& device) {
    groups.reduce = std::make_unique<SummedWhole>(std::move(groups.reduce), device);
    return groups;
  });
  EXPECT_TRUE(compare_bits(right, ran).passed);
  const auto found = findings(run_, ran, "2x2");
  ASSERT_FALSE(found.empty());
  EXPECT_TRUE(found[0].starts_with("rank 0: data all_reduce moved ")) << found[0];
  EXPECT_NE(found[0].find("the formula gives 0"), std::string::npos) << found[0];
}

TEST_F(WrongSplit, AModelThatNoRankSplitsIsFound) {
  // Each model rank does the work of both.
  const LayoutRun ran = run_locally(run_, parse_layouts("model 2 of 1x2")[0], [](AxisGroups groups, Device&) {
    groups.model = make_group_of_one();
    return groups;
  });
  std::string all;
  for (const std::string& finding : findings(run_, ran, "model 2 of 1x2")) all += finding + "\n";
  EXPECT_NE(all.find("rank 0: backward products took "), std::string::npos) << all;
  EXPECT_NE(all.find("model all_gather moved 0 bytes"), std::string::npos) << all;
}

TEST_F(WrongSplit, OneRankAmongManyIsNamed) {
  LayoutRun ran = run_locally(run_, parse_layouts("2x2")[0]);
  ran.work[2].flops["forward attention"] += 1;
  const auto found = findings(run_, ran, "2x2");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].starts_with("rank 2: forward attention took ")) << found[0];
  ran.work.pop_back();
  EXPECT_EQ(findings(run_, ran, "2x2"), std::vector<std::string>{"the layout has 4 ranks, and 3 reported"});
}

}  // namespace
}  // namespace toroid::train
