#include "optim/optimizer.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "optim/adamw.h"
#include "optim/optim.pb.h"

namespace toroid::optim {

void OptimizerRegistry::add(const std::string& name, Make make) {
  if (!makers_.emplace(name, std::move(make)).second) {
    throw InternalError("optimizer '" + name + "' is registered twice");
  }
}

std::unique_ptr<Optimizer> OptimizerRegistry::make(const config::OptimConfig& config) const {
  const std::string name =
      config.rule_case() == config::OptimConfig::kCustom ? config.custom().name() : std::string("adamw");
  const auto found = makers_.find(name);
  if (found != makers_.end()) return found->second(config);
  std::string known;
  for (const auto& [entry, make] : makers_) known += (known.empty() ? "" : ", ") + entry;
  throw UserError("optim.custom.name is '" + printable(name) +
                  "', but only these optimizers exist: " + known);
}

OptimizerRegistry builtin_optimizers() {
  OptimizerRegistry registry;
  registry.add("adamw", make_adamw);
  return registry;
}

double parameter(const config::OptimConfig& config, const std::string& key, double otherwise) {
  for (const auto& parameter : config.custom().parameter()) {
    if (parameter.key() == key) return parameter.value();
  }
  return otherwise;
}

}  // namespace toroid::optim
