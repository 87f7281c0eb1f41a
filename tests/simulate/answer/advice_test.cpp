// Advice comes of estimates; what it says is what simulating every change in full would have said.
#include "simulate/answer/advice.h"

#include <gtest/gtest.h>

#include <ostream>
#include <regex>
#include <utility>

#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

constexpr double kPoint = 1;  // percent

struct Advice {
  std::string change;
  double gain = 0, of_links = 0;
};

Advice parse(const std::string& text) {
  std::smatch found;
  const std::regex sentence("(.*) gives (\\d+) % more tokens a second; links .* would give (\\d+) %");
  if (!std::regex_match(text, found, sentence)) return {};
  return {found[1], std::stod(found[2]), std::stod(found[3])};
}

// "mesh.model=2 with mesh.data=8" as overrides.
std::vector<std::string> overrides_of(const std::string& change) {
  const std::string with = " with ";
  const size_t at = change.find(with);
  if (at == std::string::npos) return {change};
  return {change.substr(0, at), change.substr(at + with.size())};
}

struct Case {
  std::string name;
  config::RunConfig (*make)(std::vector<std::string>);
  std::vector<std::string> sets;
  config::RunConfig with(const std::vector<std::string>& more) const {
    std::vector<std::string> all = sets;
    all.insert(all.end(), more.begin(), more.end());
    return make(std::move(all));
  }
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

config::RunConfig recipe(std::vector<std::string> overrides) {
  return testing::recipe(overrides);
}

class AdviceOfEstimates : public ::testing::TestWithParam<Case> {
 protected:
  const Plugins plugins_;
  const sim::Chip chip_ = testing::v5e();
};

TEST_P(AdviceOfEstimates, IsThatOfSimulationsInFull) {
  const config::RunConfig run = GetParam().with({});
  const Simulation now = simulate(run, chip_, plugins_);
  const std::string text = what_would_help(run, chip_, now, plugins_);
  Advice advice = parse(text);
  ASSERT_FALSE(advice.change.empty()) << text;
  const bool none = text.starts_with("none of ");  // that gives one percent
  if (none) advice.gain = 1;
  const Seconds step = step_time(run, chip_, now.played.step);
  // Nothing where memory does not hold it.
  const auto gain_of = [&](const std::string& change) {
    const config::RunConfig changed = GetParam().with(overrides_of(change));
    const Simulation then = simulate(changed, chip_, plugins_);
    if (then.roles[then.fullest].placed_bytes > chip_.memory_bytes) return 0.0;
    return 100 * (step / step_time(changed, chip_, then.played.step) - 1);
  };
  if (!none) {
    EXPECT_NEAR(advice.gain, gain_of(advice.change), kPoint) << text;
  }
  const int64_t chips = run.mesh().data() * run.mesh().model(),
                sequences = run.batch().sequences_per_replica();
  std::vector<std::string> changes{"train.remat=CHEAP", "train.remat=NONE",
                                   "zero.prefetch=" + std::to_string(run.zero().prefetch() + 1)};
  if (microbatches_of(run) > 1)
    changes.push_back("batch.sequences_per_replica=" + std::to_string(2 * sequences));
  if (run.mesh().model() > 1) {
    changes.emplace_back("train.keep_gathered=true");
  } else {
    changes.push_back("mesh.model=2 with mesh.data=" + std::to_string(chips / 2));
  }
  for (const std::string& change : changes)
    EXPECT_LE(gain_of(change), advice.gain + kPoint) << change << " is better than: " << text;
  sim::Chip faster = chip_;
  faster.topology.bytes_per_s *= 2;
  faster.host.chip_bytes_per_s *= 2;
  const Seconds on_faster = step_time(run, faster, simulate(run, faster, plugins_).played.step);
  EXPECT_NEAR(advice.of_links, 100 * (step / on_faster - 1), 0.51) << text;
}

INSTANTIATE_TEST_SUITE_P(
    Runs, AdviceOfEstimates,
    ::testing::Values(Case{"gemma_2b", &recipe, {}},
                      Case{"gemma_2b_many_microbatches", &recipe, {"batch.global_sequences=3072"}},
                      Case{"gemma_2b_model_8", &recipe, {"mesh.data=32", "mesh.model=8"}},
                      Case{"gemma_2b_model_8_many_microbatches",
                           &recipe,
                           {"mesh.data=32", "mesh.model=8", "model.layers=8", "batch.global_sequences=384"}},
                      Case{"small", &testing::small_run, {}},
                      Case{"small_many_microbatches", &testing::small_run, {"batch.global_sequences=80"}},
                      Case{"small_none",
                           &testing::small_run,
                           {"train.remat=NONE", "zero.stage=2", "batch.global_sequences=32"}},
                      Case{"small_whole",
                           &testing::small_run,
                           {"mesh.pods=1", "mesh.overlap=OFF", "batch.global_sequences=12"}}),
    [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace toroid::train
