// Inflicts on one rank the faults that the config plans for it. Off where it plans none: then every call does
// nothing.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "configs/run.pb.h"
#include "train/checkpoint/checkpoint.h"
#include "train/engine/engine.h"
#include "train/faults/disk.h"
#include "train/faults/plan.h"
#include "train/faults/spoiled_communicator.h"

namespace toroid::faults {

class Injector {
 public:
  Injector(const config::RunConfig& run, int rank, int ranks);

  bool off() const { return plan_.empty(); }
  // Stands in front of the rank's groups where a fault happens within a step; else empty.
  train::AdaptGroups adapt() const;
  // Takes note of what has happened to the run in `directory` before; the rank that leads says what is
  // planned.
  void begin(const Path& directory, bool leads);

  // Before a step, counted from 1, is issued. May not return.
  void before_step(int64_t step, Device& device, Zero& zero);
  // Before the rank's slices are saved, and when that is over.
  void before_save(int64_t step, std::vector<TensorSlice>& slices);
  void after_save() { full_.reset(); }

 private:
  void happen(const Planned& fault, int64_t step, Device& device, Zero& zero);
  void spoil_weight(const Planned& fault, Device& device, Zero& zero) const;
  // Records it, says it.
  void announce(const Planned& fault, int64_t step) const;
  void say_plan() const;

  Plan plan_;
  uint64_t seed_;
  int rank_, ranks_;
  Path directory_;
  std::set<std::string> happened_;
  std::shared_ptr<ArmedFaults> armed_ = std::make_shared<ArmedFaults>();
  std::vector<Planned> slow_;       // under way: steps up to fault.step() + fault.steps()
  std::vector<Planned> at_save_;    // wait for the next save
  std::unique_ptr<FullDisk> full_;  // while it is
};

}  // namespace toroid::faults
