#include "train/faults/plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/random.h"

namespace toroid::faults {
namespace {

// A number in (0, 1).
double fraction(uint32_t word) {
  return (static_cast<double>(word) + 0.5) / 4294967296.0;
}

}  // namespace

uint32_t draw(uint64_t seed, const std::string& id, uint64_t index) {
  return philox(random_key(seed, Purpose::sample, "faults." + id), index / 4)[index % 4];
}

std::string Planned::text() const {
  return config::Fault::Kind_Name(fault.kind()) + " of rank " + std::to_string(rank) + " at step " +
         std::to_string(fault.step());
}

Plan::Plan(config::FaultsConfig faults, uint64_t seed, int ranks)
    : faults_(std::move(faults)), ranks_(ranks) {
  for (int i = 0; i < faults_.fault_size(); ++i) {
    Planned planned;
    planned.id = "fault[" + std::to_string(i) + "]";
    planned.fault = faults_.fault(i);
    planned.rank = planned.fault.has_rank() ? planned.fault.rank()
                                            : draw(seed, planned.id, 0) % static_cast<uint32_t>(ranks_);
    listed_.push_back(std::move(planned));
  }
}

Planned Plan::drawn(int64_t index, int64_t step) const {
  Planned planned;
  planned.id = "random[" + std::to_string(index) + "]";
  const uint64_t seed = faults_.random().has_seed() ? faults_.random().seed() : 1;
  const auto kinds = static_cast<uint32_t>(faults_.random().kinds_size());
  planned.fault.set_kind(faults_.random().kinds(static_cast<int>(draw(seed, planned.id, 1) % kinds)));
  planned.fault.set_step(step);
  planned.rank = draw(seed, planned.id, 2) % static_cast<uint32_t>(ranks_);
  return planned;
}

std::vector<Planned> Plan::at(int64_t step) {
  std::vector<Planned> out;
  for (const Planned& planned : listed_) {
    if (planned.fault.step() == step) out.push_back(planned);
  }
  if (!faults_.has_random()) return out;
  const uint64_t seed = faults_.random().has_seed() ? faults_.random().seed() : 1;
  const auto gap = [&](int64_t index) {
    return -faults_.random().mean_steps() *
           std::log(fraction(draw(seed, "random[" + std::to_string(index) + "]", 0)));
  };
  if (next_ == 0 && next_step_ == 0) next_step_ = gap(0);
  for (;;) {
    const auto due = static_cast<int64_t>(std::ceil(next_step_));
    if (due > step) return out;
    if (due == step) out.push_back(drawn(next_, due));
    next_step_ += gap(++next_);
  }
}

bool Plan::has(std::initializer_list<config::Fault::Kind> kinds) const {
  const auto is_one = [&](int kind) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
  return std::any_of(faults_.fault().begin(), faults_.fault().end(),
                     [&](const config::Fault& fault) { return is_one(fault.kind()); }) ||
         std::any_of(faults_.random().kinds().begin(), faults_.random().kinds().end(), is_one);
}

}  // namespace toroid::faults
