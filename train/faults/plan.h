// Which faults a run has, and at which steps: a function of the config and of how many ranks there are, so
// that every rank knows all of them without asking.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "train/faults/faults.pb.h"

namespace toroid::faults {

// A number below 2^32 that belongs to the fault `id`, whoever draws it.
uint32_t draw(uint64_t seed, const std::string& id, uint64_t index);

struct Planned {
  std::string id;  // "fault[2]" or "random[17]": of one run
  config::Fault fault;
  int64_t rank = 0;
  std::string text() const;  // "KILL of rank 3 at step 120"
};

class Plan {
 public:
  // `seed`: of the ranks that are drawn for faults without one.
  Plan(config::FaultsConfig faults, uint64_t seed, int ranks);

  bool empty() const { return faults_.fault_size() == 0 && !faults_.has_random(); }
  // Those that the config lists, in its order.
  const std::vector<Planned>& listed() const { return listed_; }
  // All that belong to the step, counted from 1. Steps are asked about in rising order.
  std::vector<Planned> at(int64_t step);
  const config::RandomFaults& random() const { return faults_.random(); }
  // Whether one of these kinds can happen.
  bool has(std::initializer_list<config::Fault::Kind> kinds) const;

 private:
  Planned drawn(int64_t index, int64_t step) const;

  config::FaultsConfig faults_;
  std::vector<Planned> listed_;
  int ranks_;
  int64_t next_ = 0;      // of the random ones: the first that was not handed out
  double next_step_ = 0;  // where it is, before it is rounded up
};

}  // namespace toroid::faults
