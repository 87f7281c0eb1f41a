#include "optim/optimizer.h"

#include "core/base/arm.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "optim/adamw.h"
#include "optim/lion.h"
#include "optim/muon.h"
#include "optim/optim.pb.h"
#include "optim/sgd.h"

namespace toroid::optim {

std::unique_ptr<Optimizer> OptimizerRegistry::make(const config::OptimConfig& config) const {
  const std::string arm = arm_of(config, "rule");
  if (arm.empty()) throw UserError("optim has no rule; give it one, as in optim { adamw {} }");
  if (arm != "custom") return makers_.at(arm, "optim has " + arm + " {}")(config);
  const std::string& name = config.custom().name();
  const std::string found = "optim.custom.name is \"" + printable(name) + "\"";
  if (config::OptimConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError(found + ", which is built in: write optim { " + printable(name) + " { ... } }");
  }
  return makers_.at(name, found)(config);
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
