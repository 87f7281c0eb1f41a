// The cases on several ranks: every data x model layout of 2, 4 and 8 ranks that a case's sizes allow,
// batches padded where the replicas are more than the sequences. The bounds are those of one rank
// (golden_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/io/file.h"
#include "core/model/split.h"
#include "tests/golden/golden_case.h"
#include "tests/loss_rounding.h"
#include "tests/parallel/local_ranks.h"

namespace toroid::golden {
namespace {

using ::toroid::testing::LocalLayout;

std::vector<LocalLayout> layouts_of(const DecoderConfig& config, bool deterministic) {
  std::vector<LocalLayout> out;
  for (const int ranks : {2, 4, 8}) {
    for (int model = 1; model <= ranks; model *= 2) {
      if (why_not_split(config.heads, config.ffn, model, deterministic).empty())
        out.push_back({ranks / model, model});
    }
  }
  return out;
}

using Tensors = std::map<std::string, std::vector<float>>;

struct Seen {
  std::vector<double> losses, norms;
  std::vector<float> hidden, logits;
  Tensors gradients, masters;  // this rank's runs in place; NaN elsewhere
};

void collect(Device& device, const std::vector<NamedTensor>& parts, const std::string& which, Tensors& to) {
  for (const NamedTensor& part : parts) {
    if (part.part != which) continue;
    std::vector<float>& whole = to[part.name];
    whole.resize(static_cast<size_t>(part.shape.elements()), NAN);
    const std::vector<float> values = to_host(device, part.tensor);
    std::copy(values.begin(), values.end(), whole.begin() + part.first);
  }
}

void merge(const Tensors& from, Tensors& to) {
  for (const auto& [name, values] : from) {
    std::vector<float>& whole = to[name];
    whole.resize(values.size(), NAN);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isnan(values[i])) whole[i] = values[i];
    }
  }
}

Seen train(const Case& golden, LocalLayout layout, const train::StepOptions& options, Cut cut = Cut::never) {
  std::vector<Seen> ranks(static_cast<size_t>(layout.size()));
  ::toroid::testing::run_local_ranks(
      layout, options.deterministic,
      [&](int rank, Device& device, ZeroGroups groups) {
        Seen& seen = ranks[static_cast<size_t>(rank)];
        const auto program = make_program(device, groups, golden, options);
        const auto trace = program->trace(golden.batch(0), golden.sequences);
        seen.hidden = to_host(device, trace.hidden.back().tensor);
        seen.logits = to_host(device, trace.logits.tensor);
        for (int64_t s = 0; s < golden.steps; ++s) {
          program->upload(golden.batch(s), 1e-3);
          program->step();
          seen.losses.push_back(program->result(0).loss);
          seen.norms.push_back(program->result(0).gradient_norm);
          if (s == 0) collect(device, program->zero().gradient_tensors(), "gradient", seen.gradients);
        }
        collect(device, program->zero().parts(), "master", seen.masters);
      },
      cut);
  for (const Seen& rank : ranks) {
    EXPECT_EQ(rank.losses, ranks[0].losses) << "ranks agree on the loss";
    merge(rank.gradients, ranks[0].gradients);
    merge(rank.masters, ranks[0].masters);
  }
  return ranks[0];
}

// Largest difference, relative to the largest of theirs.
double distance(const std::vector<float>& ours, const std::vector<float>& theirs) {
  EXPECT_EQ(ours.size(), theirs.size());
  double worst = 0, scale = 0;
  for (size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    const double d = std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
    if (!(d <= worst)) worst = d;
    scale = std::max(scale, std::abs(static_cast<double>(theirs[i])));
  }
  return scale > 0 ? worst / scale : worst;
}

class GoldenRanks : public ::testing::TestWithParam<Path> {
 protected:
  GoldenRanks() : golden_(GetParam()) {}

  void expect_golden(const Seen& seen) {
    EXPECT_LE(distance(seen.hidden, values("hidden." + std::to_string(golden_.config.layers))), 1e-5);
    EXPECT_LE(distance(seen.logits, values("logits")), 1e-5);
    const std::vector<float> losses = values("losses"), norms = values("grad_norms");
    ASSERT_EQ(seen.losses.size(), losses.size());
    for (size_t s = 0; s < losses.size(); ++s) {
      EXPECT_NEAR(seen.losses[s], losses[s], 1e-5 * std::abs(losses[s])) << "loss of step " << s;
      EXPECT_NEAR(seen.norms[s], norms[s], 1e-5 * norms[s]) << "gradient norm of step " << s;
    }
    for (const auto& [name, gradient] : seen.gradients) {
      EXPECT_LE(distance(gradient, values("grad." + name)), 5e-5) << "gradient of " << name;
    }
    EXPECT_FALSE(seen.masters.empty());
    for (const auto& [name, after] : seen.masters) {
      const std::vector<float> theirs = values("after." + name),
                               before = read_values(*golden_.model.at(name).file, name).values;
      ASSERT_EQ(after.size(), theirs.size()) << name;
      double error = 0, update = 0;
      for (size_t i = 0; i < after.size(); ++i) {
        error += std::pow(static_cast<double>(after[i]) - static_cast<double>(theirs[i]), 2);
        update += std::pow(static_cast<double>(theirs[i]) - static_cast<double>(before[i]), 2);
      }
      EXPECT_LE(std::sqrt(error), 5e-4 * std::sqrt(update)) << name << " after training";
    }
  }
  std::vector<float> values(const std::string& name) { return read_values(golden_.expected, name).values; }

  Case golden_;
};

TEST_P(GoldenRanks, TrainingFp32) {
  train::StepOptions options;
  options.compute = DType::f32;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options));
  }
}

TEST_P(GoldenRanks, TrainingDeterministic) {
  train::StepOptions options;
  options.compute = DType::f32;
  options.deterministic = true;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    options.keep_gathered = layout.data == 1;
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options));
  }
}

// Products beside the rounds of their collectives, with inputs that are kept and with those that are gathered
// again.
TEST_P(GoldenRanks, TrainingRoundByRound) {
  train::StepOptions options;
  options.compute = DType::f32;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    if (layout.model == 1) continue;
    options.keep_gathered = layout.data > 1;
    options.remat = options.keep_gathered ? train::Remat::none : train::Remat::full;
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options, Cut::always));
  }
}

// bf16 with partial sums that travel as bf16: within golden_test's bounds for one rank, which rounds no sum
// on its way.
TEST_P(GoldenRanks, Bf16SumsWithinTwiceTheReferencesDistance) {
  train::StepOptions options;
  options.compute = DType::bf16;
  options.model_wire = Wire::bf16;
  const auto reference = nlohmann::json::parse(read_file(GetParam() / "bf16.json", 1 << 20));
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    if (layout.model == 1) continue;
    SCOPED_TRACE(layout.text());
    const Seen seen = train(golden_, layout, options, Cut::always);
    EXPECT_LE(distance(seen.logits, values("logits")), 2 * reference.at("logits").get<double>());
    const double loss = values("loss")[0];
    EXPECT_NEAR(seen.losses[0], loss, testing::loss_rounding(seen.logits, values("logits")));
    std::vector<double> ratios;
    for (const auto& [name, gradient] : seen.gradients) {
      ratios.push_back(distance(gradient, values("grad." + name)) /
                       reference.at("grad").at(name).get<double>());
      EXPECT_LE(ratios.back(), 6) << "gradient of " << name;
    }
    std::sort(ratios.begin(), ratios.end());
    EXPECT_LE(ratios[ratios.size() / 2], 2) << "median over the gradient tensors";
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenRanks, ::testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
