#include "optim/schedule/registry.h"

#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "optim/optim.pb.h"
#include "optim/schedule/constant.h"
#include "optim/schedule/cosine.h"
#include "optim/schedule/linear.h"
#include "optim/schedule/warmup_stable_decay.h"

namespace toroid::optim {
namespace {

// The arm's field name in the message: what a built-in is registered as.
std::string arm(const config::ScheduleConfig& config) {
  const auto* oneof = config::ScheduleConfig::descriptor()->FindOneofByName("kind");
  const auto* field = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  return field == nullptr ? std::string() : field->name();
}

const config::Parameter* find(const config::ScheduleConfig& config, const std::string& key) {
  for (const config::Parameter& entry : config.custom().parameter()) {
    if (entry.key() == key) return &entry;
  }
  return nullptr;
}

}  // namespace

void ScheduleRegistry::add(const std::string& name, Make make) {
  if (!makers_.emplace(name, std::move(make)).second) {
    throw InternalError("schedule \"" + name + "\" is registered twice");
  }
}

Schedule ScheduleRegistry::make(const config::ScheduleConfig& config) const {
  const std::string kind = arm(config);
  if (kind.empty()) throw UserError("optim.schedule is not set");
  if (kind != "custom") {
    const auto found = makers_.find(kind);
    if (found == makers_.end()) throw InternalError("schedule \"" + kind + "\" is not registered");
    return found->second(config);
  }
  const std::string& name = config.custom().name();
  if (config::ScheduleConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError("optim.schedule.custom.name is \"" + printable(name) +
                    "\", which is built in: write schedule { " + printable(name) + " { ... } }");
  }
  const auto found = makers_.find(name);
  if (found == makers_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, unused] : makers_) names.push_back(known);
    const std::string near = did_you_mean(name, names);
    throw UserError("optim.schedule.custom.name is \"" + printable(name) +
                    "\", which no schedule is registered as" +
                    (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
  }
  return found->second(config);
}

ScheduleRegistry builtin_schedules() {
  ScheduleRegistry registry;
  registry.add("constant", [](const config::ScheduleConfig& c) { return constant_schedule(c.constant()); });
  registry.add("linear", [](const config::ScheduleConfig& c) { return linear_schedule(c.linear()); });
  registry.add("cosine", [](const config::ScheduleConfig& c) { return cosine_schedule(c.cosine()); });
  registry.add("warmup_stable_decay", [](const config::ScheduleConfig& c) {
    return warmup_stable_decay_schedule(c.warmup_stable_decay());
  });
  return registry;
}

double parameter(const config::ScheduleConfig& config, const std::string& key) {
  const config::Parameter* entry = find(config, key);
  if (entry == nullptr) {
    throw UserError("optim.schedule.custom \"" + printable(config.custom().name()) +
                    "\" needs a parameter \"" + key + "\"");
  }
  return entry->value();
}

double parameter(const config::ScheduleConfig& config, const std::string& key, double otherwise) {
  const config::Parameter* entry = find(config, key);
  return entry == nullptr ? otherwise : entry->value();
}

}  // namespace toroid::optim
