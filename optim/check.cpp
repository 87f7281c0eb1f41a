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

using google::protobuf::Message;
using Field = google::protobuf::FieldDescriptor;

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

// A schedule's warm-up and decay fit into its steps, where those are set.
void check_length(const std::string& path, const Message& schedule) {
  const auto steps_of = [&](const char* name) -> int64_t {
    const Field* field = schedule.GetDescriptor()->FindFieldByName(name);
    return field == nullptr ? 0 : schedule.GetReflection()->GetInt64(schedule, field);
  };
  const int64_t steps = steps_of("steps"), warmup = steps_of("warmup"), decay = steps_of("decay");
  if (steps == 0 || warmup + decay <= steps) return;
  throw UserError(path + ".warmup (" + std::to_string(warmup) + ")" +
                  (decay > 0 ? " + decay (" + std::to_string(decay) + ")" : "") +
                  " is more than its steps (" + std::to_string(steps) + ")");
}

void check_number(const std::string& path, const Message& message, const Field& field) {
  const auto* reflection = message.GetReflection();
  const config::Bounds& bounds = field.options().GetExtension(config::bounds);
  const bool set = reflection->HasField(message, &field);
  if (!set && !bounds.required()) return;
  if (field.cpp_type() == Field::CPPTYPE_INT64) {
    check_range(path, set, reflection->GetInt64(message, &field), static_cast<int64_t>(bounds.least()),
                static_cast<int64_t>(bounds.most()));
  } else {
    check_range(path, set, reflection->GetDouble(message, &field), bounds.least(), bounds.most());
  }
}

// The bounds that stand beside the fields of a message, and of those in it that are set.
void check_bounds(const std::string& path, const Message& message) {
  if (message.GetDescriptor() == config::CustomConfig::descriptor()) {
    return check_custom(path, static_cast<const config::CustomConfig&>(message));
  }
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const Field& field = *message.GetDescriptor()->field(i);
    const std::string name = path + "." + field.name();
    if (field.options().HasExtension(config::bounds)) {
      check_number(name, message, field);
    } else if (field.cpp_type() == Field::CPPTYPE_MESSAGE && reflection->HasField(message, &field)) {
      check_bounds(name, reflection->GetMessage(message, &field));
    }
  }
}

}  // namespace

void check(const config::OptimConfig& optim) {
  check_bounds("optim", optim);
  const config::ScheduleConfig& schedule = optim.schedule();
  const std::string kind = arm_of(schedule, "kind");
  if (kind.empty()) {
    std::string kinds;
    const auto& arms = *config::ScheduleConfig::descriptor()->FindOneofByName("kind");
    for (int i = 0; i < arms.field_count(); ++i) {
      kinds += (i == 0 ? "" : i + 1 == arms.field_count() ? " or " : ", ") + arms.field(i)->name();
    }
    throw UserError("optim.schedule is not set; choose " + kinds);
  }
  check_length("optim.schedule." + kind,
               schedule.GetReflection()->GetMessage(
                   schedule, config::ScheduleConfig::descriptor()->FindFieldByName(kind)));
}

}  // namespace toroid::optim
