// Schedules by name. One more is a function, one add() and, in a config,
//   schedule { custom { name: "mine" parameter { key: "peak" value: 1e-3 } } }
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "core/base/makers.h"
#include "optim/schedule/schedule.h"

namespace toroid::config {
class ScheduleConfig;
}

namespace toroid::optim {

class ScheduleRegistry {
 public:
  using Make = std::function<Schedule(const config::ScheduleConfig&)>;

  // InternalError where `name` is taken.
  void add(const std::string& name, Make make) { makers_.add(name, std::move(make)); }

  // The schedule that a checked config asks for: the entry named after the arm that is set or, for `custom`,
  // the entry of that name. UserError where there is none.
  Schedule make(const config::ScheduleConfig& config) const;

 private:
  Makers<Make> makers_{"schedule"};
};

// constant, linear, cosine and warmup_stable_decay.
ScheduleRegistry builtin_schedules();

// The number that a custom schedule was given under `key`; UserError where it was not.
double parameter(const config::ScheduleConfig& config, const std::string& key);
// The same, with a value for a key that may be left out.
double parameter(const config::ScheduleConfig& config, const std::string& key, double otherwise);

}  // namespace toroid::optim
