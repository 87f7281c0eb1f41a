#include "optim/schedule/registry.h"

#include "core/base/arm.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "optim/optim.pb.h"
#include "optim/schedule/constant.h"
#include "optim/schedule/cosine.h"
#include "optim/schedule/linear.h"
#include "optim/schedule/warmup_stable_decay.h"

namespace toroid::optim {
namespace {

const config::Parameter* find(const config::ScheduleConfig& config, const std::string& key) {
  for (const config::Parameter& entry : config.custom().parameter()) {
    if (entry.key() == key) return &entry;
  }
  return nullptr;
}

}  // namespace

Schedule ScheduleRegistry::make(const config::ScheduleConfig& config) const {
  const std::string kind = arm_of(config, "kind");
  if (kind.empty()) throw UserError("optim.schedule is not set");
  if (kind != "custom") return makers_.at(kind, "optim.schedule has " + kind + " {}")(config);
  const std::string& name = config.custom().name();
  const std::string found = "optim.schedule.custom.name is \"" + printable(name) + "\"";
  if (config::ScheduleConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError(found + ", which is built in: write schedule { " + printable(name) + " { ... } }");
  }
  return makers_.at(name, found)(config);
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
