// An optimizer: which states it keeps for a tensor and which update operators it issues. The arithmetic is in
// operators (core/op/update.h, momentum.h); here stand config, states and order of calls.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/makers.h"
#include "core/device/update_rule.h"

namespace toroid::config {
class OptimConfig;
}

namespace toroid::optim {

using toroid::StepScalars;
using Optimizer = UpdateRule;

// Optimizers by name. One more is one file and one add(); in a config: `custom { name: "mine" parameter { ...
// } }`.
class OptimizerRegistry {
 public:
  using Make = std::function<std::unique_ptr<Optimizer>(const config::OptimConfig&)>;
  // InternalError where `name` is taken.
  void add(const std::string& name, Make make) { makers_.add(name, std::move(make)); }
  // The entry named after the config's arm or, for `custom`, the entry of that name. UserError where no arm
  // is set or there is no entry.
  std::unique_ptr<Optimizer> make(const config::OptimConfig& config) const;

 private:
  Makers<Make> makers_{"optimizer"};
};

OptimizerRegistry builtin_optimizers();

// The number that a custom optimizer was given under `key`, or `otherwise`.
double parameter(const config::OptimConfig& config, const std::string& key, double otherwise);

}  // namespace toroid::optim
