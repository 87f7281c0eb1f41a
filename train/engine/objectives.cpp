#include "train/engine/objectives.h"

#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/model/next_token.h"
#include "train/train.pb.h"

namespace toroid::train {

void ObjectiveRegistry::add(const std::string& name, Make make) {
  if (!makers_.emplace(name, std::move(make)).second) {
    throw InternalError("objective '" + name + "' is registered twice");
  }
}

std::unique_ptr<Objective> ObjectiveRegistry::make(const config::ObjectiveConfig& config) const {
  const auto* kinds = config::ObjectiveConfig::descriptor()->FindOneofByName("kind");
  const auto* arm = config.GetReflection()->GetOneofFieldDescriptor(config, kinds);
  const bool custom = arm != nullptr && arm->name() == "custom";
  const std::string name = arm == nullptr ? "next_token" : custom ? config.custom().name() : arm->name();
  if (custom && config::ObjectiveConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError("train.objective.custom.name is '" + printable(name) +
                    "', which is built in: write objective { " + printable(name) + " { ... } }");
  }
  const auto found = makers_.find(name);
  if (found != makers_.end()) return found->second(config);
  throw UserError(std::string("train.objective") + (custom ? ".custom.name" : "") + " is '" +
                  printable(name) + "', but only these objectives exist: " + names());
}

std::string ObjectiveRegistry::names() const {
  std::string known;
  for (const auto& [entry, make] : makers_) known += (known.empty() ? "" : ", ") + entry;
  return known;
}

ObjectiveRegistry builtin_objectives() {
  ObjectiveRegistry registry;
  registry.add("next_token", [](const config::ObjectiveConfig&) { return make_next_token(); });
  return registry;
}

}  // namespace toroid::train
