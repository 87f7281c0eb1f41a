#include "optim/check.h"

#include <cstdint>
#include <set>
#include <string>

#include "core/base/arm.h"
#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "optim/bounds.pb.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

constexpr int64_t kMostSteps = 1'000'000'000'000;
constexpr double kJustBelowOne = 1.0 - 1e-12;

void check_custom(const std::string& path, const config::CustomConfig& custom) {
  if (custom.name().empty()) throw UserError(path + ".name is not set");
  std::set<std::string> keys;
  for (const config::Parameter& parameter : custom.parameter()) {
    if (parameter.key().empty()) throw UserError(path + ".parameter has an entry without a key");
    if (!parameter.has_value()) {
      throw UserError(path + ".parameter \"" + printable(parameter.key()) + "\" has no value");
    }
    if (!keys.insert(parameter.key()).second) {
      throw UserError(path + ".parameter \"" + printable(parameter.key()) + "\" is given twice");
    }
    check_range(path + ".parameter " + printable(parameter.key()), parameter.value(), -1e300, 1e300);
  }
}

// What every built-in schedule has. `steps` counts only where it is set.
template <class Kind>
void check_common(const std::string& path, const Kind& kind) {
  check_range(path + ".peak", kind.has_peak(), kind.peak(), 0.0, 1e3);
  check_range(path + ".warmup", kind.warmup(), 0, kMostSteps);
}

template <class Kind>
void check_decaying(const std::string& path, const Kind& kind, int64_t decay) {
  check_common(path, kind);
  check_range(path + ".final_fraction", kind.final_fraction(), 0.0, 1.0);
  if (!kind.has_steps()) return;
  check_range(path + ".steps", kind.steps(), 1, kMostSteps);
  if (kind.warmup() + decay > kind.steps()) {
    throw UserError(path + ".warmup (" + std::to_string(kind.warmup()) + ")" +
                    (decay > 0 ? " + decay (" + std::to_string(decay) + ")" : "") +
                    " is more than its steps (" + std::to_string(kind.steps()) + ")");
  }
}

void check_schedule(const config::ScheduleConfig& schedule) {
  const std::string path = "optim.schedule";
  switch (schedule.kind_case()) {
    case config::ScheduleConfig::kConstant:
      return check_common(path + ".constant", schedule.constant());
    case config::ScheduleConfig::kLinear:
      return check_decaying(path + ".linear", schedule.linear(), 0);
    case config::ScheduleConfig::kCosine:
      return check_decaying(path + ".cosine", schedule.cosine(), 0);
    case config::ScheduleConfig::kWarmupStableDecay: {
      const auto& kind = schedule.warmup_stable_decay();
      check_range(path + ".warmup_stable_decay.decay", kind.decay(), 0, kMostSteps);
      return check_decaying(path + ".warmup_stable_decay", kind, kind.decay());
    }
    case config::ScheduleConfig::kCustom:
      return check_custom(path + ".custom", schedule.custom());
    case config::ScheduleConfig::KIND_NOT_SET:
      throw UserError(
          "optim.schedule is not set; choose constant, linear, cosine, warmup_stable_decay or custom");
  }
}

// The bounds that stand beside the fields of a rule's message, and of those within it.
void check_bounds(const std::string& path, const google::protobuf::Message& message) {
  using Field = google::protobuf::FieldDescriptor;
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const Field& field = *message.GetDescriptor()->field(i);
    const std::string name = path + "." + field.name();
    if (field.cpp_type() == Field::CPPTYPE_MESSAGE) {
      check_bounds(name, reflection->GetMessage(message, &field));
      continue;
    }
    if (!field.options().HasExtension(config::bounds)) continue;
    const config::Bounds& bounds = field.options().GetExtension(config::bounds);
    if (field.cpp_type() == Field::CPPTYPE_INT64) {
      check_range(name, reflection->GetInt64(message, &field), static_cast<int64_t>(bounds.least()),
                  static_cast<int64_t>(bounds.most()));
    } else {
      check_range(name, reflection->GetDouble(message, &field), bounds.least(), bounds.most());
    }
  }
}

}  // namespace

void check(const config::OptimConfig& optim) {
  if (optim.has_custom()) {
    check_custom("optim.custom", optim.custom());
  } else if (const std::string rule = arm_of(optim, "rule"); !rule.empty()) {
    check_bounds("optim." + rule, optim.GetReflection()->GetMessage(
                                      optim, config::OptimConfig::descriptor()->FindFieldByName(rule)));
  }
  check_schedule(optim.schedule());
  check_range("optim.clip_norm", optim.clip_norm(), 0.0, 1e12);
  check_range("optim.ema.decay", optim.ema().decay(), 0.0, kJustBelowOne);
  check_range("optim.skip.zscore", optim.skip().zscore(), 0.0, 1e6);
  check_range("optim.skip.decay", optim.skip().decay(), 0.0, kJustBelowOne);
  check_range("optim.skip.warmup", optim.skip().warmup(), 0, kMostSteps);
  check_range("optim.skip.max_consecutive", optim.skip().max_consecutive(), 1, kMostSteps);
}

}  // namespace toroid::optim
