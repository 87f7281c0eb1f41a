#include "train/certify/certificate.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/random.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "core/device/sim/recording_device.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

// Synthetic tokens, of which sequence i of a step loses its first targets: more or fewer, by its number, so
// that no two ranks of a layout have as many.
Batch masked_batch(const config::RunConfig& run, int64_t step, const std::vector<std::string>& operands) {
  Batch batch = synthetic_batch(run, step, operands);
  for (int64_t s = 0; s < batch.sequences; ++s) {
    const int64_t masked = (7 * s + 3 * step) % std::max<int64_t>(1, batch.tokens - 1);
    for (int64_t t = 0; t < masked; ++t) batch.targets[static_cast<size_t>(s * batch.tokens + t)] = -1;
    batch.target_count -= masked;
  }
  return batch;
}

// This rank's share of the hashes. A tensor's elements are hashed by their index in it, and tensors are told
// apart by an odd factor, so that the shares of all ranks add up to the same whatever they hold.
CertifiedStep hashes(Device& device, const Zero& zero) {
  CertifiedStep out;
  for (const NamedTensor& part : zero.parts()) {
    if (!part.counted) continue;
    std::vector<std::byte> bytes(static_cast<size_t>(part.tensor.bytes()));
    device.read(part.tensor, bytes);
    const uint64_t hash = tensor_hash(bytes, bytes_of(part.tensor.type), static_cast<uint64_t>(part.first));
    const uint64_t factor = hash_name(part.name + " " + part.part) | 1u;
    (part.part == "master" ? out.weights : out.moments) += factor * hash;
  }
  return out;
}

Json word(uint64_t value) {
  return hex(value);
}

uint64_t word(const JsonView& value) {
  const std::string text = value.as_string();
  uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  if (error != std::errc() || end != text.data() + text.size()) value.refuse("is not a hexadecimal number");
  return out;
}

double exact_double(const JsonView& value) {
  return std::bit_cast<double>(word(value));
}

bool same_bits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

Json work_json(const RankWork& work) {
  return {{"flops", work.flops}, {"bytes", work.bytes}};
}

std::map<std::string, int64_t> sums_of(const JsonView& value) {
  std::map<std::string, int64_t> out;
  for (const std::string& key : value.keys()) out[key] = value.at(key).as_integer();
  return out;
}

RankWork work_of(const JsonView& value) {
  return {sums_of(value.at("flops")), sums_of(value.at("bytes"))};
}

std::string number(double value) {
  return fmt::format("{:.17g}", value);
}

// Adds a rank's hashes to the sum. Losses and norms are the first rank's, and every other one must have the
// same.
void add_share(CertifiedStep& sum, const CertifiedStep& share, size_t rank, size_t step) {
  if (rank > 0 && !(same_bits(share.loss, sum.loss) && same_bits(share.gradient_norm, sum.gradient_norm))) {
    throw InternalError("rank " + std::to_string(rank) + " has the loss " + number(share.loss) +
                        " and the norm " + number(share.gradient_norm) + " at step " +
                        std::to_string(step + 1) + ", rank 0 has " + number(sum.loss) + " and " +
                        number(sum.gradient_norm));
  }
  sum.loss = share.loss;
  sum.gradient_norm = share.gradient_norm;
  sum.weights += share.weights;
  sum.moments += share.moments;
}

}  // namespace

config::RunConfig certified_config(config::RunConfig run, const std::vector<Layout>& layouts, int64_t steps) {
  int replicas = 1;
  for (const Layout& layout : layouts) replicas = std::max(replicas, layout.replicas());
  run.mutable_batch()->clear_ramp();
  run.mutable_batch()->set_global_sequences(2 * replicas);
  run.mutable_batch()->set_sequences_per_replica(1);
  run.mutable_train()->set_steps(steps);
  run.mutable_optim()->set_clip_norm(0.25);  // less than the norm of a model that has just begun
  run.clear_mesh();
  run.clear_pathways();  // gradients are summed over pods: trained apart, their number decides the numbers
  return run;
}

LayoutRun run_layout(const config::RunConfig& run, std::unique_ptr<World> world,
                     std::unique_ptr<Device> device, const Plugins& plugins, const AdaptGroups& adapt) {
  auto recording = std::make_unique<RecordingDevice>(*device);
  RecordingDevice& recorder = *recording;
  // The recorder stands in front of the device, so it must go first.
  struct Run {
    std::unique_ptr<Device> device;
    Engine engine;
  } self{std::move(device), {}};
  recorder.keep_records(false);
  self.engine = make_engine(run, std::move(world), std::move(recording), plugins, adapt);
  StepProgram& program = *self.engine.program;
  program.initialise(run.train().seed());
  const optim::Schedule schedule = plugins.schedules.make(run.optim().schedule());
  LayoutRun own;  // what this rank knows: the losses, its share of the hashes, its work
  for (int64_t step = 0; step < run.train().steps(); ++step) {
    program.upload(host_batch(masked_batch(run, step, program.options().objective->operands())),
                   schedule(step));
    const bool last = step + 1 == run.train().steps();
    recorder.keep_records(last);
    recorder.clear();
    program.step();
    recorder.keep_records(false);
    const StepResult result = program.result(0);
    CertifiedStep share = hashes(recorder, program.zero());
    share.loss = result.loss;
    share.gradient_norm = result.gradient_norm;
    own.steps.push_back(share);
  }
  own.work.push_back(recorded_work(recorder.records()));
  const auto all = self.engine.world->exchange().texts(to_text(own), "certificate");
  LayoutRun out;
  out.steps.resize(own.steps.size());
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const LayoutRun part = layout_run(all[rank], "the report of rank " + std::to_string(rank));
    require(part.steps.size() == out.steps.size() && part.work.size() == 1, "every rank made the same steps");
    for (size_t s = 0; s < out.steps.size(); ++s) add_share(out.steps[s], part.steps[s], rank, s);
    out.work.push_back(part.work[0]);
  }
  return out;
}

std::string to_text(const LayoutRun& run) {
  Json out{{"layout", run.layout}, {"steps", Json::array()}, {"work", Json::array()}};
  for (const CertifiedStep& step : run.steps) {
    out["steps"].push_back({{"loss", word(std::bit_cast<uint64_t>(step.loss))},
                            {"gradient_norm", word(std::bit_cast<uint64_t>(step.gradient_norm))},
                            {"weights", word(step.weights)},
                            {"moments", word(step.moments)}});
  }
  for (const RankWork& work : run.work) out["work"].push_back(work_json(work));
  return out.dump();
}

LayoutRun layout_run(std::string_view text, const std::string& origin) {
  const JsonDocument document = JsonDocument::parse(text, origin);
  LayoutRun out;
  out.layout = document.root().at("layout").as_string();
  for (const JsonView& step : document.root().at("steps").elements()) {
    out.steps.push_back({exact_double(step.at("loss")), exact_double(step.at("gradient_norm")),
                         word(step.at("weights")), word(step.at("moments"))});
  }
  for (const JsonView& work : document.root().at("work").elements()) out.work.push_back(work_of(work));
  return out;
}

Verdict compare_bits(const LayoutRun& reference, const LayoutRun& other) {
  Verdict verdict;
  const auto find = [&](size_t step, const char* what, const std::string& one, const std::string& two) {
    verdict.passed = false;
    verdict.findings.push_back(other.layout + ", step " + std::to_string(step + 1) + ": " + what + " is " +
                               two + ", but " + one + " under " + reference.layout);
  };
  if (reference.steps.size() != other.steps.size()) {
    return {false,
            {other.layout + " made " + std::to_string(other.steps.size()) + " steps and " + reference.layout +
             " " + std::to_string(reference.steps.size())}};
  }
  for (size_t s = 0; s < reference.steps.size() && verdict.passed; ++s) {
    const CertifiedStep &one = reference.steps[s], &two = other.steps[s];
    if (!same_bits(one.loss, two.loss)) find(s, "the loss", number(one.loss), number(two.loss));
    if (!same_bits(one.gradient_norm, two.gradient_norm)) {
      find(s, "the gradient norm", number(one.gradient_norm), number(two.gradient_norm));
    }
    if (one.weights != two.weights) find(s, "the hash of the weights", hex(one.weights), hex(two.weights));
    if (one.moments != two.moments) find(s, "the hash of the moments", hex(one.moments), hex(two.moments));
  }
  return verdict;
}

double deviation(const LayoutRun& reference, const LayoutRun& other) {
  double largest = 0;
  const auto relative = [](double a, double b) {
    const double gap = std::abs(a - b) / std::max(std::abs(a), 1e-30);
    return std::isnan(gap) ? std::numeric_limits<double>::infinity() : gap;
  };
  for (size_t s = 0; s < std::min(reference.steps.size(), other.steps.size()); ++s) {
    largest = std::max({largest, relative(reference.steps[s].loss, other.steps[s].loss),
                        relative(reference.steps[s].gradient_norm, other.steps[s].gradient_norm)});
  }
  return largest;
}

}  // namespace toroid::train
