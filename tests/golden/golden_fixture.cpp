#include "tests/golden/golden_fixture.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/io/file.h"

namespace toroid::golden {
namespace {

struct Distance {
  double largest = 0;  // of |a - b|
  double scale = 0;    // largest |b|
  double relative = 0;
  std::string where;
};

Distance distance(const std::vector<float>& ours, const std::vector<float>& theirs) {
  Distance out;
  EXPECT_EQ(ours.size(), theirs.size());
  if (ours.size() != theirs.size()) return out;
  size_t worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double d = std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
    if (!(d <= out.largest)) out.largest = d, worst = i;
    out.scale = std::max(out.scale, std::abs(static_cast<double>(theirs[i])));
  }
  out.relative = out.scale > 0 ? out.largest / out.scale : out.largest;
  if (!ours.empty()) {
    out.where = "worst at index " + std::to_string(worst) + ": " + std::to_string(ours[worst]) + " and " +
                std::to_string(theirs[worst]);
  }
  return out;
}

void expect_near(const std::vector<float>& ours, const Values& theirs, double bound,
                 const std::string& what) {
  const Distance d = distance(ours, theirs.values);
  EXPECT_LE(d.relative, bound) << what << ": " << d.where;
}

}  // namespace

GoldenFixture::GoldenFixture(std::unique_ptr<Device> device)
    : golden_(GetParam()), owner_(std::move(device)), device_(*owner_), alone_(make_group_of_one()) {}
GoldenFixture::~GoldenFixture() = default;

std::unique_ptr<train::StepProgram> GoldenFixture::program(const train::StepOptions& options) {
  return make_program(device_, alone(*alone_), golden_, options);
}

train::StepOptions GoldenFixture::fp32(int64_t sequences_per_replica) const {
  train::StepOptions options;
  options.compute = DType::f32;
  options.sequences_per_replica = sequences_per_replica;
  return options;
}

void GoldenFixture::forward_pass(train::StepProgram& program) {
  const auto trace = program.trace(golden_.batch(0), golden_.sequences);
  for (size_t l = 0; l < trace.hidden.size(); ++l) {
    const std::string name = "hidden." + std::to_string(l);
    expect_near(to_host(device_, trace.hidden[l].tensor), read_values(golden_.expected, name), 1e-5, name);
  }
  expect_near(to_host(device_, trace.logits.tensor), read_values(golden_.expected, "logits"), 1e-5, "logits");
}

void GoldenFixture::training(const train::StepOptions& options) {
  const auto owner = program(options);
  train::StepProgram& program = *owner;
  const auto losses = read_values(golden_.expected, "losses").values;
  const auto norms = read_values(golden_.expected, "grad_norms").values;
  for (int64_t s = 0; s < golden_.steps; ++s) {
    program.upload(golden_.batch(s), 1e-3);
    program.step();
    const train::StepResult result = program.result(0);
    const auto at = static_cast<size_t>(s);
    EXPECT_NEAR(result.loss, losses[at], 1e-5 * std::abs(losses[at])) << "loss of step " << s;
    EXPECT_NEAR(result.gradient_norm, norms[at], 1e-5 * norms[at]) << "gradient norm of step " << s;
    if (s == 0) {
      for (const NamedTensor& gradient : program.zero().gradient_tensors()) {
        expect_near(to_host(device_, gradient.tensor), read_values(golden_.expected, "grad." + gradient.name),
                    5e-5, "gradient of " + gradient.name);
      }
    }
  }
  for (const NamedTensor& part : program.zero().parts()) {
    if (part.part != "master") continue;
    const auto after = read_values(golden_.expected, "after." + part.name).values;
    const auto before = read_values(*golden_.model.at(part.name).file, part.name).values;
    const auto ours = to_host(device_, part.tensor);
    double error = 0, update = 0, worst = 0, largest = 0;
    size_t worst_index = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      const double d = static_cast<double>(ours[i]) - static_cast<double>(after[i]);
      const double u = static_cast<double>(after[i]) - static_cast<double>(before[i]);
      error += d * d, update += u * u;
      largest = std::max(largest, std::abs(u));
      if (!(std::abs(d) <= worst)) worst = std::abs(d), worst_index = i;
    }
    EXPECT_LE(std::sqrt(error), 5e-4 * std::sqrt(update)) << part.name << " after training, 2-norm";
    EXPECT_LE(worst, 1e-2 * largest) << part.name << " after training, index " << worst_index << ": "
                                     << ours[worst_index] << " and " << after[worst_index];
  }
}

void GoldenFixture::bf16_training() {
  for (const bool deterministic : {false, true}) {
    train::StepOptions options;
    options.compute = DType::bf16;
    options.sequences_per_replica = golden_.sequences;
    options.deterministic = deterministic;
    const auto reference = nlohmann::json::parse(read_file(GetParam() / "bf16.json", 1 << 20));
    const auto owner = program(options);
    const auto trace = owner->trace(golden_.batch(0), golden_.sequences);
    const Distance logits =
        distance(to_host(device_, trace.logits.tensor), read_values(golden_.expected, "logits").values);
    EXPECT_LE(logits.relative, 2 * reference.at("logits").get<double>()) << "logits: " << logits.where;

    owner->upload(golden_.batch(0), 1e-3);
    owner->step();
    const double loss = read_values(golden_.expected, "loss").values[0];
    EXPECT_NEAR(owner->result(0).loss, loss, std::max(3e-3, 2 * reference.at("loss").get<double>()));
    std::vector<double> ratios;
    for (const NamedTensor& gradient : owner->zero().gradient_tensors()) {
      const Distance d = distance(to_host(device_, gradient.tensor),
                                  read_values(golden_.expected, "grad." + gradient.name).values);
      ratios.push_back(d.relative / reference.at("grad").at(gradient.name).get<double>());
      EXPECT_LE(ratios.back(), 6) << "gradient of " << gradient.name << ": " << d.where;
    }
    std::sort(ratios.begin(), ratios.end());
    EXPECT_LE(ratios[ratios.size() / 2], 2) << "median over the gradient tensors";
  }
}

}  // namespace toroid::golden
