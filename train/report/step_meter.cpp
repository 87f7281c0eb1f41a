#include "train/report/step_meter.h"

#include <algorithm>

#include "core/base/median.h"

namespace toroid::train {
namespace {

constexpr size_t kTimes = 3;  // numbers of a share before its bytes

}  // namespace

StepMeter::StepMeter(const Device& device, const World& world, const mesh::Mesh& mesh)
    : device_(device), world_(world) {
  const int pod = mesh.coordinate(world.rank()).pod;
  for (int rank = 0; rank < world.size(); ++rank) {
    const bool here = mesh.coordinate(rank).pod == pod;
    links_.push_back(here ? mesh.hops(world.rank(), rank) : std::vector<int>(mesh.torus().size()));
    links_.back().push_back(here ? 0 : 1);
  }
  begin();
}

void StepMeter::begin() {
  sent_before_ = world_.traffic().sent_bytes;
}

StepShare StepMeter::end() const {
  StepShare out;
  out.link_bytes.resize(links_[0].size());
  for (size_t rank = 0; rank < links_.size(); ++rank) {
    const auto bytes = static_cast<double>(world_.traffic().sent_bytes[rank] - sent_before_[rank]);
    for (size_t i = 0; i < out.link_bytes.size(); ++i) out.link_bytes[i] += bytes * links_[rank][i];
  }
  return out;
}

double StepCommunication::median_own_s() const {
  return median(own_s);
}

void StepMeter::time(StepShare& share, Event begin, Event end) const {
  share.took = device_.elapsed(begin, end);
  const CommunicationTime communication = device_.communication_time(begin, end);
  share.exposed = communication.exposed;
  share.under_way = communication.under_way;
}

StepCommunication summarise(std::span<const StepShare> ranks) {
  StepCommunication out;
  out.link_bytes.resize(ranks[0].link_bytes.size());
  const auto count = static_cast<double>(ranks.size());
  for (const StepShare& rank : ranks) {
    out.exposed_s += rank.exposed.count() / count;
    out.under_way_s += rank.under_way.count() / count;
    out.own_s.push_back(rank.own().count());
    for (size_t i = 0; i < out.link_bytes.size(); ++i) out.link_bytes[i] += rank.link_bytes[i] / count;
  }
  // A wait ends a moment after its collective: the rest is not negative.
  if (out.under_way_s > 0) out.overlap = std::max(0.0, 1 - out.exposed_s / out.under_way_s);
  out.slowest = static_cast<int>(std::max_element(out.own_s.begin(), out.own_s.end()) - out.own_s.begin());
  return out;
}

std::vector<double> to_numbers(const StepShare& share) {
  std::vector<double> out{share.took.count(), share.exposed.count(), share.under_way.count()};
  out.insert(out.end(), share.link_bytes.begin(), share.link_bytes.end());
  return out;
}

StepShare share_of(std::span<const double> numbers) {
  StepShare out;
  out.took = Seconds(numbers[0]);
  out.exposed = Seconds(numbers[1]);
  out.under_way = Seconds(numbers[2]);
  out.link_bytes.assign(numbers.begin() + kTimes, numbers.end());
  return out;
}

std::vector<StragglerWatch::Finding> StragglerWatch::look(std::span<const double> own_s) {
  std::vector<Finding> out;
  if (steps_ == 0 || own_s.size() < 2) return out;
  states_.resize(own_s.size());
  std::vector<double> sorted(own_s.begin(), own_s.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t rank = 0; rank < own_s.size(); ++rank) {
    const auto at = std::lower_bound(sorted.begin(), sorted.end(), own_s[rank]) - sorted.begin();
    const auto without = static_cast<size_t>(at);
    const double peers =
        median_of_sorted(sorted.size() - 1, [&](size_t i) { return sorted[i < without ? i : i + 1]; });
    State& state = states_[rank];
    const bool slow = own_s[rank] > factor_ * peers;
    state.in_a_row = slow == state.named ? 0 : state.in_a_row + 1;
    if (state.in_a_row < steps_) continue;
    state = {0, slow};
    out.push_back({static_cast<int>(rank), !slow, own_s[rank], peers});
  }
  return out;
}

}  // namespace toroid::train
