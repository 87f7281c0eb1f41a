#include "optim/optimizer.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "optim/adamw.h"
#include "optim/lion.h"
#include "optim/muon.h"
#include "optim/optim.pb.h"
#include "optim/sgd.h"

namespace toroid::optim {

void OptimizerRegistry::add(const std::string& name, Make make) {
  if (!makers_.emplace(name, std::move(make)).second) {
    throw InternalError("optimizer '" + name + "' is registered twice");
  }
}

std::unique_ptr<Optimizer> OptimizerRegistry::make(const config::OptimConfig& config) const {
  const auto* oneof = config::OptimConfig::descriptor()->FindOneofByName("rule");
  const auto* arm = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  if (arm == nullptr) {
    throw UserError("optim has no rule; give it one of: " + names() + ", as in optim { adamw {} }");
  }
  if (arm->name() != "custom") {
    const auto found = makers_.find(arm->name());
    if (found != makers_.end()) return found->second(config);
    throw UserError("optim." + arm->name() +
                    " is in the config's schema, but no optimizer is registered as '" + arm->name() +
                    "'; registered are: " + names());
  }
  const std::string& name = config.custom().name();
  if (oneof->containing_type()->FindFieldByName(name) != nullptr) {
    throw UserError("optim.custom.name is '" + printable(name) + "', which is built in: write optim { " +
                    printable(name) + " { ... } }");
  }
  const auto found = makers_.find(name);
  if (found != makers_.end()) return found->second(config);
  throw UserError("optim.custom.name is '" + printable(name) +
                  "', but only these optimizers exist: " + names());
}

std::string OptimizerRegistry::names() const {
  std::string known;
  for (const auto& [entry, make] : makers_) known += (known.empty() ? "" : ", ") + entry;
  return known;
}

OptimizerRegistry builtin_optimizers() {
  OptimizerRegistry registry;
  registry.add("adamw", [](const config::OptimConfig& config) { return make_adamw(config); });
  registry.add("lion", make_lion);
  registry.add("muon", make_muon);
  registry.add("sgd", make_sgd);
  return registry;
}

double parameter(const config::OptimConfig& config, const std::string& key, double otherwise) {
  for (const auto& parameter : config.custom().parameter()) {
    if (parameter.key() == key) return parameter.value();
  }
  return otherwise;
}

}  // namespace toroid::optim
