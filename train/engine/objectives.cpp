#include "train/engine/objectives.h"

#include "configs/run.pb.h"
#include "core/base/arm.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/model/next_token.h"

namespace toroid::train {

std::unique_ptr<Objective> ObjectiveRegistry::make(const config::ObjectiveConfig& config) const {
  const std::string arm = arm_of(config, "kind");
  const bool custom = arm == "custom";
  const std::string name = arm.empty() ? "next_token" : custom ? config.custom().name() : arm;
  if (custom && config::ObjectiveConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError("train.objective.custom.name is \"" + printable(name) +
                    "\", which is built in: write objective { " + printable(name) + " { ... } }");
  }
  const std::string found =
      std::string("train.objective") + (custom ? ".custom.name" : "") + " is \"" + printable(name) + "\"";
  return makers_.at(name, found)(config);
}

ObjectiveRegistry builtin_objectives() {
  ObjectiveRegistry registry;
  registry.add("next_token", [](const config::ObjectiveConfig&) { return make_next_token(); });
  return registry;
}

}  // namespace toroid::train
