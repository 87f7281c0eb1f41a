#include "train/loop/detectors.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "core/base/log.h"
#include "core/base/processor_time.h"
#include "core/base/text.h"
#include "train/loop/judge.h"

namespace toroid::train {
namespace {

// What a double holds of a number of 64 bits, so that ranks exchange it with others.
double as_number(uint64_t bits) {
  return static_cast<double>(bits >> 11);
}

uint64_t folded(const Checksum& sum) {
  return sum.sum * 0x9e3779b97f4a7c15u ^ sum.weighted * 0xc2b2ae3d27d4eb4fu;
}

uint64_t as_result(std::span<const double> numbers) {
  uint64_t out = 0;
  for (const double number : numbers) out = (out ^ static_cast<uint64_t>(number)) * 0x100000001b3u;
  return out;
}

std::string list_of(const std::vector<std::string>& names, std::string_view between) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : std::string(between)) + name;
  return out;
}

}  // namespace

Detectors::Detectors(const config::DetectConfig& config, Engine& engine) : config_(config), engine_(engine) {
  const mesh::Mesh& mesh = engine.layout->mesh();
  pods_ = mesh.pods();
  data_ = mesh.data();
  if (config_.replay_every() == 0 || data_ == 1) return;
  // Teams of other sizes may sum in another order where nothing forbids it.
  const double threads = engine.device->traits().threads;
  const std::vector<double> all = engine.world->exchange().numbers({&threads, 1}, "the detectors");
  const bool alike = std::all_of(all.begin(), all.end(), [&](double other) { return other == threads; });
  shift_ = alike || engine.program->options().deterministic ? 1 : 0;
}

std::string Detectors::who(int rank) const {
  const auto index = static_cast<size_t>(rank);
  return engine_.layout->text(rank) +
         (index < engine_.hosts.size() ? " on host " + in_quotes(engine_.hosts[index]) : std::string());
}

void Detectors::record(int64_t step, const Finding& finding) const {
  Incident incident;
  incident.kind = "corruption";
  incident.detector = finding.detector;
  incident.rank = finding.rank;
  const auto index = static_cast<size_t>(finding.rank);
  if (finding.rank >= 0 && index < engine_.hosts.size()) incident.host = engine_.hosts[index];
  incident.step = step;
  incident.what = finding.what;
  incident.lasting = finding.lasting;
  if (!directory_.empty()) append_incident(directory_, incident);
}

void Detectors::fail(Finding finding) const {
  throw CorruptionError(std::move(finding));
}

// Memory and replicas

std::vector<double> Detectors::tell(int64_t step, int steps_ago, Seconds took) {
  const Seconds now = thread_processor_time(), own = began_ ? now - *began_ : Seconds(0);
  steps_ += own;
  began_ = now;
  if (replayed_ && took.count() > 0) {
    const Seconds replay = engine_.device->elapsed(*replayed_->replay_begin, *replayed_->replay_end);
    replays_ += own * (replay / took);
  }
  replayed_.reset();
  std::vector<double> out(told(), 0.0);
  StateChecksums* const checksums = engine_.program->zero().checksums();
  if (checksums == nullptr) return out;
  if (const auto fault = checksums->found(steps_ago)) {
    Finding finding{
        "memory", engine_.world->rank(), -1, {}, "it changed between two updates: " + fault->text()};
    log::error("step {}: memory of {}: {}", step, who(finding.rank), finding.what);
    record(step, finding);
    out[0] = 1;
  }
  if (pods_ > 1 && due(config_.replicas_every(), step)) {
    const Seconds before = thread_processor_time();
    const Checksum digest = checksums->digest();
    replicas_ += thread_processor_time() - before;
    out[1] = 1;
    const uint64_t words[] = {digest.sum >> 32, digest.sum & 0xffffffffu, digest.weighted >> 32,
                              digest.weighted & 0xffffffffu};
    for (size_t i = 0; i < kDigest; ++i) out[2 + i] = static_cast<double>(words[i]);
  }
  return out;
}

void Detectors::hear(int64_t step, std::span<const double> all) {
  const size_t width = told();
  const int size = engine_.world->size();
  const auto of = [&](int rank) { return all.subspan(static_cast<size_t>(rank) * width, width); };
  std::vector<std::string> faulty;
  int first = -1;
  for (int rank = 0; rank < size; ++rank) {
    if (of(rank)[0] == 0) continue;
    if (first < 0) first = rank;
    faulty.push_back(who(rank));
  }
  if (first >= 0) {
    fail({"memory",
          first,
          -1,
          {},
          "what is held between two updates has changed at " + list_of(faulty, " and at ") +
              " (incidents.jsonl says where)"});
  }
  if (pods_ == 1 || of(0)[1] == 0) return;
  const mesh::Mesh& mesh = engine_.layout->mesh();
  std::map<std::pair<int, int>, std::vector<Computed>> twins;  // by place in the pod
  for (int rank = 0; rank < size; ++rank) {
    const auto at = mesh.coordinate(rank);
    twins[{at.data, at.model}].push_back({rank, as_result(of(rank).subspan(2))});
  }
  for (const auto& [place, digests] : twins) {
    const auto verdict = judge(digests);
    if (!verdict) continue;
    std::vector<std::string> names;
    for (const int rank : verdict->ranks) names.push_back(who(rank));
    const bool known = verdict->ranks.size() == 1;
    Finding finding{"replicas", known ? verdict->ranks[0] : -1, -1, {}, ""};
    finding.what = known ? names[0] + " holds other weights or states than its twins in the other pods"
                         : list_of(names, " and ") +
                               " are twins in different pods and hold other weights or "
                               "states; which of them is wrong is not known";
    if (engine_.world->rank() == 0) record(step, finding);
    fail(std::move(finding));
  }
}

void Detectors::look(int64_t step) {
  StateChecksums* const checksums = engine_.program->zero().checksums();
  if (checksums == nullptr) return;
  double found = 0;
  if (const auto fault = checksums->look()) {
    Finding finding{
        "memory", engine_.world->rank(), -1, {}, "it changed after the last update: " + fault->text()};
    log::error("step {}: memory of {}: {}", step, who(finding.rank), finding.what);
    record(step, finding);
    found = 1;
  }
  const std::vector<double> all = engine_.world->exchange().numbers({&found, 1}, "the memory's checksums");
  const auto first = std::find(all.begin(), all.end(), 1.0);
  if (first == all.end()) return;
  const auto rank = static_cast<int>(first - all.begin());
  fail({"memory",
        rank,
        -1,
        {},
        "what is held after the last update has changed at " + who(rank) +
            ", and is not saved (incidents.jsonl says where)"});
}

// Compute

Deal Detectors::shifted(const Deal& deal, int shift) const {
  const int place = engine_.layout->mesh().coordinate(engine_.world->rank()).data;
  Deal out = deal;
  out.first += int64_t{(place + shift) % data_ - place} * deal.sequences;
  return out;
}

int Detectors::neighbour(int rank, int shift) const {
  const mesh::Mesh& mesh = engine_.layout->mesh();
  const auto at = mesh.coordinate(rank);
  for (int other = 0; other < engine_.world->size(); ++other) {
    const auto there = mesh.coordinate(other);
    if (there.pod == at.pod && there.model == at.model && there.data == (at.data + shift) % data_)
      return other;
  }
  throw InternalError("a rank has a neighbour along the data axis");
}

void Detectors::step(int64_t step, const HostBatch& batch, const Deal& deal) {
  if (!due(config_.replay_every(), step)) return engine_.program->step();
  StepCheck check{&batch, shifted(deal, shift_), {}};
  check.before_update = [&] { compare_gradients(step, batch, deal); };
  engine_.program->step(&check);
  replayed_ = engine_.program->marks();
}

std::vector<double> Detectors::exchange(const std::vector<Checksum>& sums) const {
  std::vector<double> mine;
  for (const Checksum& sum : sums) mine.push_back(as_number(folded(sum)));
  return engine_.world->exchange().numbers(mine, "checksums of gradients");
}

void Detectors::compare_gradients(int64_t step, const HostBatch& batch, const Deal& deal) {
  StepProgram& program = *engine_.program;
  const int size = engine_.world->size();
  // Results by the rank whose microbatch it is.
  std::vector<std::vector<Computed>> results(static_cast<size_t>(size));
  std::vector<std::vector<double>> first(static_cast<size_t>(size));
  std::string unit;  // the first that differs
  const auto add = [&](const std::vector<Checksum>& sums, int shift) {
    const std::vector<double> all = exchange(sums);
    const size_t width = sums.size();
    for (int rank = 0; rank < size; ++rank) {
      const auto numbers = std::span(all).subspan(static_cast<size_t>(rank) * width, width);
      const auto of = static_cast<size_t>(shift == 0 ? rank : neighbour(rank, shift));
      results[of].push_back({rank, as_result(numbers)});
      if (first[of].empty()) first[of].assign(numbers.begin(), numbers.end());
      for (size_t u = 0; u < width && unit.empty(); ++u) {
        if (first[of][u] != numbers[u]) unit = program.zero().units()[u].spec.name;
      }
    }
  };
  add(program.first_gradients(), 0);
  add(program.replayed_gradients(), shift_);
  const auto differ = [](const std::vector<Computed>& of) { return judge(of).has_value(); };
  if (std::none_of(results.begin(), results.end(), differ)) return;
  if (engine_.world->rank() == 0) {
    log::error("step {}: a microbatch computed again gives other gradients of {}; it is tried again",
               step + 1, in_quotes(unit));
  }
  // The same ones once more, and a third rank's where there is one.
  std::vector<int> shifts{0, shift_};
  if (shift_ == 1 && data_ > 2) shifts.push_back(2);
  for (const int shift : shifts) {
    program.replay(batch, shifted(deal, shift));
    add(program.replayed_gradients(), shift);
  }
  for (const std::vector<Computed>& of : results) {
    const auto verdict = judge(of);
    if (!verdict) continue;
    std::vector<std::string> names;
    for (const int rank : verdict->ranks) names.push_back(who(rank));
    const bool known = verdict->ranks.size() == 1;
    Finding finding{"compute", known ? verdict->ranks[0] : -1, -1, verdict->lasting, ""};
    finding.what = "in step " + std::to_string(step + 1) + " the gradients of " + in_quotes(unit) +
                   " in the first microbatch, computed " + std::to_string(of.size()) +
                   " times, are not the same each time: " +
                   (known ? names[0] + " computed wrong" : "wrong is one of " + list_of(names, ", ")) +
                   (!verdict->lasting   ? ""
                    : *verdict->lasting ? "; it came again when it was tried again"
                                        : "; it did not come again when it was tried again");
    if (engine_.world->rank() == 0) record(step, finding);
    fail(std::move(finding));
  }
  throw InternalError("results that differ have a verdict");
}

std::string Detectors::costs() const {
  std::vector<std::string> out;
  const auto add = [&](const char* name, Seconds spent) {
    if (spent.count() > 0 && steps_.count() > 0) {
      out.push_back(fmt::format("{} {:.2f} %", name, 100 * (spent / steps_)));
    }
  };
  const double threads = engine_.device->traits().threads;
  if (const StateChecksums* checksums = engine_.program->zero().checksums())
    add("memory", checksums->spent());
  // Of one thread, beside the team.
  if (const WireChecks* checks = engine_.world->wire_checks()) add("wire", checks->spent() / threads);
  add("compute", replays_);
  add("replicas", replicas_);
  return list_of(out, ", ");
}

}  // namespace toroid::train
