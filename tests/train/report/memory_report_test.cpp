// What a dry run predicts of a rank's memory is what the ranks of a real run take: by holder, on one chip and
// under each kind of sharding, whether collectives read a host's memory or send messages.
#include "train/report/memory_report.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/train/certify/local_layout.h"
#include "train/loop/dry_run.h"

namespace toroid::train {
namespace {

struct Rank {
  Statistics predicted, used;
};

// Three steps of every rank of `layout`.
std::vector<Rank> train(const std::string& layout_text, const LocalJob::Options& options,
                        bool deterministic) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  run.mutable_train()->set_deterministic(deterministic);
  run.mutable_batch()->set_global_sequences(8);
  const Layout layout = parse_layouts(layout_text)[0];
  layout.apply(run);
  config::validate(run);
  LocalJob job(layout.ranks(), options);
  std::vector<Rank> found(static_cast<size_t>(layout.ranks()));
  const std::string failures = testing::run_rank_threads(layout.ranks(), [&](int rank) {
    const Plugins plugins;
    const Engine engine = make_engine(run, job.world(rank), local_device(plugins), plugins);
    engine.program->initialise(1);
    for (int64_t step = 0; step < 3; ++step) {
      engine.program->upload(host_batch(synthetic_batch(run, step)), 1e-3);
      engine.program->step();
    }
    (void)engine.program->result(0);
    Rank& out = found[static_cast<size_t>(rank)];
    out.used = engine.device->statistics();
    out.predicted = predict_memory(run, *engine.world, 1, plugins).memory;
  });
  EXPECT_EQ(failures, "") << layout_text;
  return found;
}

class Memory : public ::testing::TestWithParam<bool> {};

TEST_P(Memory, IsWhatADryRunPredicts) {
  LocalJob::Options by_messages;
  by_messages.reads_memory = by_messages.relays = false;
  for (const bool reads : {true, false}) {
    for (const char* layout :
         {"1x1", "2x2 zero 0", "2x2 zero 1", "2x2 zero 2", "2x2 zero 3", "model 2 of 2x2", "model 4 of 1x4",
          "pods 2 of 1x2", "pods 2 of model 2 of 2x2"}) {
      const auto ranks = train(layout, reads ? LocalJob::Options() : by_messages, GetParam());
      for (size_t r = 0; r < ranks.size(); ++r) {
        EXPECT_EQ(ranks[r].predicted.bytes_peak, ranks[r].used.bytes_peak)
            << layout << ", rank " << r << (reads ? "" : ", by messages");
        EXPECT_EQ(ranks[r].predicted.peak_by_holder, ranks[r].used.peak_by_holder)
            << layout << ", rank " << r << (reads ? "" : ", by messages");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Memory, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "deterministic" : "fast"; });

TEST(Memory, GroupsOverHostsSendMessagesAndOthersDoNot) {
  LocalJob::Options hosts;
  hosts.hosts = 2;
  for (const Rank& rank : train("2x2", hosts, false)) {
    EXPECT_EQ(rank.predicted.bytes_peak, rank.used.bytes_peak);
  }
}

TEST(Memory, OfWeightsAndStatesIsSharedByTheRanks) {
  const auto held = [](const char* layout) {
    const Statistics used = train(layout, {}, false)[0].used;
    return used.peak_by_holder.at("master weights") + used.peak_by_holder.at("optimizer states");
  };
  const auto one = static_cast<double>(held("1x1"));
  // Units are padded to whole blocks on every rank.
  EXPECT_LT(static_cast<double>(held("1x2")), 0.65 * one);
  EXPECT_LT(static_cast<double>(held("2x2")), 0.45 * one);
}

TEST(Memory, ReportNamesHoldersAndTheRankThatUsedMost) {
  Statistics predicted, used;
  predicted.peak_by_holder = {{"gradients", 1000}, {"batch", 0}};
  used.peak_by_holder = {{"gradients", 800}, {"activations", 3000}};
  std::ostringstream text;
  print_memory(text, predicted, used, {{4000, 3800}, {5000, 4000}}, 0);
  EXPECT_EQ(text.str(),
            "memory of rank 0        predicted         used\n"
            "  activations                   0 B      3.00 kB   -100.0 %\n"
            "  gradients                 1.00 kB        800 B    +25.0 %\n"
            "  in all                    4.00 kB      3.80 kB     +5.3 %\n"
            "  most, by rank 1           5.00 kB      4.00 kB    +25.0 %\n");
}

}  // namespace
}  // namespace toroid::train
