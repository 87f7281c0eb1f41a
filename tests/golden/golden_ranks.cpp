#include "tests/golden/golden_ranks.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/io/file.h"
#include "tests/loss_rounding.h"

namespace toroid::golden {

using ::toroid::testing::LocalLayout;

namespace {

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

// Largest difference, relative to the largest of theirs.
double distance_of_ranks(const std::vector<float>& ours, const std::vector<float>& theirs) {
  EXPECT_EQ(ours.size(), theirs.size());
  double worst = 0, scale = 0;
  for (size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    const double d = std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
    if (!(d <= worst)) worst = d;
    scale = std::max(scale, std::abs(static_cast<double>(theirs[i])));
  }
  return scale > 0 ? worst / scale : worst;
}

}  // namespace

Seen train(const Case& golden, LocalLayout layout, const train::StepOptions& options, Cut cut,
           const ::toroid::testing::MakeRankDevice& make_device) {
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
      cut, make_device);
  for (const Seen& rank : ranks) {
    EXPECT_EQ(rank.losses, ranks[0].losses) << "ranks agree on the loss";
    merge(rank.gradients, ranks[0].gradients);
    merge(rank.masters, ranks[0].masters);
  }
  return ranks[0];
}

void GoldenRanksFixture::expect_golden(const Seen& seen) const {
  EXPECT_LE(distance_of_ranks(seen.hidden, values("hidden." + std::to_string(golden_.config.layers))), 1e-5);
  EXPECT_LE(distance_of_ranks(seen.logits, values("logits")), 1e-5);
  const std::vector<float> losses = values("losses"), norms = values("grad_norms");
  ASSERT_EQ(seen.losses.size(), losses.size());
  for (size_t s = 0; s < losses.size(); ++s) {
    EXPECT_NEAR(seen.losses[s], losses[s], 1e-5 * std::abs(losses[s])) << "loss of step " << s;
    EXPECT_NEAR(seen.norms[s], norms[s], 1e-5 * norms[s]) << "gradient norm of step " << s;
  }
  for (const auto& [name, gradient] : seen.gradients) {
    EXPECT_LE(distance_of_ranks(gradient, values("grad." + name)), 5e-5) << "gradient of " << name;
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

void GoldenRanksFixture::expect_golden_in_bf16(const Seen& seen) const {
  const auto reference = nlohmann::json::parse(read_file(GetParam() / "bf16.json", 1 << 20));
  EXPECT_LE(distance_of_ranks(seen.logits, values("logits")), 2 * reference.at("logits").get<double>());
  const double loss = values("loss")[0];
  EXPECT_NEAR(seen.losses[0], loss, ::toroid::testing::loss_rounding(seen.logits, values("logits")));
  std::vector<double> ratios;
  for (const auto& [name, gradient] : seen.gradients) {
    ratios.push_back(distance_of_ranks(gradient, values("grad." + name)) /
                     reference.at("grad").at(name).get<double>());
    EXPECT_LE(ratios.back(), 6) << "gradient of " << name;
  }
  std::sort(ratios.begin(), ratios.end());
  EXPECT_LE(ratios[ratios.size() / 2], 2) << "median over the gradient tensors";
}

std::vector<float> GoldenRanksFixture::values(const std::string& name) const {
  return read_values(golden_.expected, name).values;
}

}  // namespace toroid::golden
