// An optimizer: which states it keeps for a tensor and which update operator it issues. The arithmetic is an
// operator (core/op/update.h); here stand config, state and order of calls. All tensors are f32 and flat.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

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
  void add(const std::string& name, Make make);
  // The entry named after the arm that is set or, for `custom`, the entry of that name. UserError where there
  // is none.
  std::unique_ptr<Optimizer> make(const config::OptimConfig& config) const;

 private:
  std::map<std::string, Make> makers_;
};

OptimizerRegistry builtin_optimizers();

// The number that a custom optimizer was given under `key`, or `otherwise`.
double parameter(const config::OptimConfig& config, const std::string& key, double otherwise);

}  // namespace toroid::optim
