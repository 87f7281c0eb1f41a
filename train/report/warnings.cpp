#include "train/report/warnings.h"

#include <fmt/core.h>
#include <google/protobuf/descriptor.h>

#include "core/base/text.h"
#include "train/config/batch_plan.h"
#include "train/config/stale.h"

namespace toroid::train {
namespace {

// Where a config says when its schedule ends.
std::string schedule_steps(const config::ScheduleConfig& schedule) {
  const auto* kind = config::ScheduleConfig::descriptor()->FindOneofByName("kind");
  const auto* field = schedule.GetReflection()->GetOneofFieldDescriptor(schedule, kind);
  if (field == nullptr || schedule.has_custom()) return "optim.schedule.custom.parameter";
  return "optim.schedule." + field->name() + ".steps";
}

std::string steps_follow(int64_t steps) {
  return with_commas(steps) + (steps == 1 ? " step follows" : " steps follow");
}

}  // namespace

std::vector<std::string> warnings(const config::Resolved& resolved, const Plugins& plugins) {
  std::vector<std::string> all;
  const optim::Schedule schedule = plugins.schedules.make(resolved.run.optim().schedule());
  const int64_t steps = resolved.run.train().steps();
  std::string said;
  if (schedule.end() && *schedule.end() < steps) {
    said = schedule_steps(resolved.run.optim().schedule());
    all.push_back("the schedule ends at step " + std::to_string(*schedule.end()) + ", and " +
                  steps_follow(steps - *schedule.end()) + " at rate " +
                  fmt::format("{:.3g}", schedule(*schedule.end())) + "; set " + said +
                  " to end it elsewhere (train.steps is " + std::to_string(steps) + ")");
  }
  const BatchPlan plan(resolved.run.batch());
  for (const BatchPlan::Phase& phase : plan.phases()) {
    if (phase.first_step == 0 || phase.first_step < steps) continue;
    all.push_back(phase.name + " is for steps from " + with_commas(phase.first_step) +
                  " on, and the run ends before them (train.steps is " + std::to_string(steps) + ")");
    break;
  }
  for (const config::StaleValue& stale : config::stale_values(resolved)) {
    if (stale.path != said) all.push_back(to_text(stale));
  }
  return all;
}

}  // namespace toroid::train
