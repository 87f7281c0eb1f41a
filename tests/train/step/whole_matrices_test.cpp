// Rules that see matrices whole, over ranks that share them: every layout trains alike, a state goes from one
// layout to another, owners share the work, and a step that does not count leaves nothing.
#include "parallel/zero/whole_matrices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

#include "core/base/error.h"
#include "tests/train/certify/local_layout.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

TEST(DealEvenly, gives_the_heaviest_first_to_whoever_has_least) {
  const std::vector<int64_t> work{1, 8, 4, 4, 2, 5};
  EXPECT_EQ(deal_evenly(work, 1), std::vector<int>(6, 0));
  EXPECT_EQ(deal_evenly(work, 3), (std::vector<int>{1, 0, 2, 2, 1, 1}));
  EXPECT_TRUE(deal_evenly({}, 4).empty());
}

// Longest first is at most 4/3 of the best, which is no less than the mean or the heaviest (Graham 1969).
TEST(DealEvenly, is_nearly_even) {
  std::vector<int64_t> work;
  for (int64_t layer = 0; layer < 28; ++layer) work.insert(work.end(), {95, 95, 95, 72, 72, 72, 72});
  for (const int ranks : {2, 7, 16, 100, 256}) {
    std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
    const std::vector<int> owner = deal_evenly(work, ranks);
    for (size_t i = 0; i < work.size(); ++i) load[static_cast<size_t>(owner[i])] += work[i];
    const double mean = static_cast<double>(std::accumulate(work.begin(), work.end(), int64_t{0})) / ranks;
    EXPECT_LE(static_cast<double>(*std::max_element(load.begin(), load.end())),
              4.0 / 3.0 * std::max(mean, 95.0))
        << ranks << " ranks";
  }
}

// All of a model's tensors, whole, as the ranks hold them together.
using Whole = std::map<std::string, std::vector<float>>;

class Rank {
 public:
  Rank(const config::RunConfig& run, LocalJob& job, int rank)
      : run_(run), engine_(make_engine(run, job.world(rank), local_device(plugins_), plugins_)) {
    engine_.program->initialise(run.train().seed());
  }
  void steps(int64_t first, int64_t last) {
    for (int64_t step = first; step < last; ++step) {
      engine_.program->upload(host_batch(synthetic_batch(run_, step)), 1e-2);
      engine_.program->step();
      (void)engine_.program->result(0);
    }
  }
  // Adds what this rank is to save.
  void save(Whole& whole) const {
    for (const NamedTensor& part : engine_.program->zero().parts()) {
      if (!part.counted) continue;
      std::vector<float>& values = whole[part.name + " " + part.part];
      values.resize(static_cast<size_t>(part.shape.elements()), NAN);
      engine_.device->read(
          part.tensor, std::as_writable_bytes(std::span(values).subspan(
                           static_cast<size_t>(part.first), static_cast<size_t>(part.tensor.elements()))));
    }
    std::vector<float>& state = whole["state"];
    state.resize(static_cast<size_t>(engine_.program->state().elements()));
    engine_.device->read(engine_.program->state(), std::as_writable_bytes(std::span(state)));
  }
  void load(const Whole& whole) {
    engine_.program->zero().clear();
    for (const NamedTensor& part : engine_.program->zero().parts()) {
      const auto values =
          std::span(whole.at(part.name + " " + part.part))
              .subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.tensor.elements()));
      engine_.device->write(part.tensor, std::as_bytes(values));
    }
    engine_.device->write(engine_.program->state(), std::as_bytes(std::span(whole.at("state"))));
    engine_.program->weights_changed();
  }

 private:
  const config::RunConfig run_;
  const Plugins plugins_;
  Engine engine_;
};

// Trains steps [first, last) under a layout, from a state where one is given.
Whole trained(const std::string& layout, const std::vector<std::string>& sets, const Whole* from,
              int64_t first, int64_t last) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 1", sets);
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  const int ranks = mesh::Mesh(run.mesh()).world_size();
  LocalJob job(ranks, {});
  Whole whole;
  std::mutex mutex;
  EXPECT_EQ("", testing::run_rank_threads(ranks, [&](int rank) {
              Rank self(run, job, rank);
              if (from != nullptr) self.load(*from);
              self.steps(first, last);
              const std::lock_guard lock(mutex);
              self.save(whole);
            }));
  return whole;
}

void expect_same_bits(const Whole& found, const Whole& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (const auto& [name, values] : expected) {
    ASSERT_TRUE(found.count(name)) << what << ": " << name;
    EXPECT_EQ(found.at(name), values) << what << ": " << name;
  }
}

const std::vector<std::string> kMuon{"optim.muon={ adamw_rate: 0.3 }"};

TEST(WholeMatrices, a_state_moves_to_any_layout) {
  const Whole straight = trained("1x1", kMuon, nullptr, 0, 4);
  EXPECT_TRUE(straight.count("model.layers.1.mlp.down_proj.weight momentum_buffer"));
  EXPECT_TRUE(straight.count("model.embed_tokens.weight exp_avg"));
  EXPECT_FALSE(straight.count("model.layers.1.mlp.down_proj.weight exp_avg"));
  Whole half = trained("2x2", kMuon, nullptr, 0, 2);
  for (const char* layout : {"model 2 of 1x2", "4x1 zero 1", "pods 2 of 1x1", "2x2 zero 0", "1x1"}) {
    expect_same_bits(trained(layout, kMuon, &half, 2, 4), straight, layout);
  }
}

// Without tiles, sums over ranks come in other orders: each rule's step is as far from one rank's as rounding
// makes it, whatever the layout.
TEST(WholeMatrices, fast_mode_trains_alike_on_any_layout) {
  for (const char* rule : {"optim.muon={}", "optim.lion={}", "optim.sgd={ weight_decay: 0.1 }"}) {
    const std::vector<std::string> sets{rule, "train.deterministic=false", "train.precision=FP32"};
    const Whole one = trained("1x1", sets, nullptr, 0, 2);
    for (const char* layout : {"2x2", "3x1", "model 2 of 2x2", "model 4 of 2x2 zero 0"}) {
      const Whole other = trained(layout, sets, nullptr, 0, 2);
      for (const auto& [name, values] : one) {
        double apart = 0, size = 0;
        for (size_t i = 0; i < values.size(); ++i) {
          apart += std::pow(static_cast<double>(other.at(name)[i]) - values[i], 2);
          size += std::pow(static_cast<double>(values[i]), 2);
        }
        // Lion steps by a sign, which the rounding of a gradient near zero may turn.
        const double bound = std::string(rule).find("lion") != std::string::npos ? 5e-2 : 2e-4;
        EXPECT_LE(std::sqrt(apart), bound * std::sqrt(size) + 1e-9) << rule << ", " << layout << ": " << name;
      }
    }
  }
}

}  // namespace
}  // namespace toroid::train
