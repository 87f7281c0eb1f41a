#include "train/config/resolve.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <string_view>

#include "core/base/arm.h"
#include "train/config/reflection.h"

namespace toroid::config {
namespace {

namespace pb = google::protobuf;

constexpr std::string_view kFrom = "from ";

void set_default(pb::Message& message, const pb::FieldDescriptor* field) {
  const pb::Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return reflection->SetInt32(&message, field, field->default_value_int32());
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return reflection->SetInt64(&message, field, field->default_value_int64());
    case pb::FieldDescriptor::CPPTYPE_UINT32:
      return reflection->SetUInt32(&message, field, field->default_value_uint32());
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      return reflection->SetUInt64(&message, field, field->default_value_uint64());
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->SetDouble(&message, field, field->default_value_double());
    case pb::FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->SetFloat(&message, field, field->default_value_float());
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return reflection->SetBool(&message, field, field->default_value_bool());
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return reflection->SetEnum(&message, field, field->default_value_enum());
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return reflection->SetString(&message, field, field->default_value_string());
    case pb::FieldDescriptor::CPPTYPE_MESSAGE:
      return;
  }
}

bool is_empty(const pb::Message& message) {
  std::vector<const pb::FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return fields.empty();
}

// Presence means something in a oneof only: an arm that is not set stays so.
void fill(pb::Message& message, const std::string& path, Origins& origins) {
  const pb::Reflection* reflection = message.GetReflection();
  const pb::Descriptor* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const pb::FieldDescriptor* field = type->field(i);
    const std::string here = join(path, field->name());
    const bool is_message = field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (field->is_repeated()) {
      for (int k = 0; is_message && k < reflection->FieldSize(message, field); ++k) {
        fill(*reflection->MutableRepeatedMessage(&message, field, k), at(here, k), origins);
      }
      continue;
    }
    const bool is_set = reflection->HasField(message, field);
    if (field->containing_oneof() != nullptr) {
      if (is_set && is_message) fill(*reflection->MutableMessage(&message, field), here, origins);
    } else if (is_message) {
      if (!is_set && here == "data") continue;
      pb::Message* nested = reflection->MutableMessage(&message, field);
      fill(*nested, here, origins);
      if (!is_set && is_empty(*nested)) reflection->ClearField(&message, field);
    } else if (!is_set && field->has_default_value()) {
      set_default(message, field);
      origins[here] = "default";
    }
  }
}

void derive_model(ModelConfig& model, Origins& origins) {
  if (!model.has_kv_heads() && model.has_heads()) {
    model.set_kv_heads(model.heads());
    origins["model.kv_heads"] = derived_from("model.heads");
  }
  if (!model.has_query_pre_attn_scalar() && model.has_head_dim()) {
    model.set_query_pre_attn_scalar(static_cast<double>(model.head_dim()));
    origins["model.query_pre_attn_scalar"] = derived_from("model.head_dim");
  }
  ModelConfig::Rope& rope = *model.mutable_rope();
  if (!rope.has_local_base() || rope.local_base() == 0) {
    rope.set_local_base(rope.base());
    origins["model.rope.local_base"] = derived_from("model.rope.base");
  }
}

void derive_batch(BatchConfig& batch, Origins& origins) {
  if (batch.has_global_sequences() || batch.ramp().empty() || !batch.ramp().rbegin()->has_global_sequences())
    return;
  batch.set_global_sequences(batch.ramp().rbegin()->global_sequences());
  origins["batch.global_sequences"] = derived_from("batch.ramp");
}

// The steps of a schedule that has them, and of its decay where it has one. A run may end within its warm-up
// or before its decay: the schedule is then longer than the run.
void derive_schedule(ScheduleConfig& schedule, const TrainConfig& train, Origins& origins) {
  const std::string arm = arm_of(schedule, "kind");
  if (arm.empty()) return;
  pb::Message& kind =
      *schedule.GetReflection()->MutableMessage(&schedule, schedule.GetDescriptor()->FindFieldByName(arm));
  const auto* const reflection = kind.GetReflection();
  const auto field = [&](const char* name) { return kind.GetDescriptor()->FindFieldByName(name); };
  const auto* const steps = field("steps");
  const auto* const decay = field("decay");
  if (steps == nullptr) return;
  const std::string path = "optim.schedule." + arm;
  // What is out of bounds is left to validate(), so nothing may overflow before it.
  const auto bounded = [&](const pb::FieldDescriptor* of) {
    return of == nullptr ? 0 : std::clamp<int64_t>(reflection->GetInt64(kind, of), 0, 1'000'000'000'000);
  };
  const int64_t warmup = bounded(field("warmup"));
  if (!reflection->HasField(kind, steps) && train.has_steps()) {
    const int64_t most = std::max({train.steps(), warmup + bounded(decay), int64_t{1}});
    reflection->SetInt64(&kind, steps, most);
    origins[path + ".steps"] = derived_from(train.steps() >= most ? "train.steps" : path + ".warmup");
  }
  if (decay != nullptr && !reflection->HasField(kind, decay) && reflection->HasField(kind, steps)) {
    const int64_t whole = reflection->GetInt64(kind, steps);
    reflection->SetInt64(&kind, decay, std::min(whole / 10, whole - warmup));
    origins[path + ".decay"] = derived_from(path + ".steps");
  }
}

}  // namespace

std::string derived_from(const std::string& path) {
  return std::string(kFrom) + path;
}

std::optional<std::string> source_of(const std::string& origin) {
  if (!origin.starts_with(kFrom)) return std::nullopt;
  return origin.substr(kFrom.size());
}

void resolve(RunConfig& run, Origins& origins) {
  derive_model(*run.mutable_model(), origins);
  derive_batch(*run.mutable_batch(), origins);
  if (run.optim().rule_case() == OptimConfig::RULE_NOT_SET) run.mutable_optim()->mutable_adamw();
  const bool outer_step =
      run.pathways().every_steps() > 1 && run.pathways().outer_case() == PathwaysConfig::OUTER_NOT_SET;
  if (outer_step) run.mutable_pathways()->mutable_nesterov();
  derive_schedule(*run.mutable_optim()->mutable_schedule(), run.train(), origins);
  fill(run, "", origins);
  if (!outer_step) return;
  for (const char* value : {"learning_rate", "momentum"}) {
    origins[join("pathways.nesterov", value)] = derived_from("pathways.every_steps");
  }
}

}  // namespace toroid::config
