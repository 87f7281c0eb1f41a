#include "train/config/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>

#include "core/base/range.h"
#include "core/base/utf8.h"

namespace toroid::config {

namespace pb = google::protobuf;

void for_each_value(const pb::Message& message, const std::string& path,
                    const std::function<void(const Value&)>& see) {
  const pb::Reflection* reflection = message.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    const std::string here = join(path, field->name());
    const bool is_message = field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (!field->is_repeated()) {
      if (is_message) {
        for_each_value(reflection->GetMessage(message, field), here, see);
      } else {
        see({message, *field, -1, here});
      }
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (is_message) {
        for_each_value(reflection->GetRepeatedMessage(message, field, i), at(here, i), see);
      } else {
        see({message, *field, i, at(here, i)});
      }
    }
  }
}

std::string literal(const Value& value) {
  if (value.field.cpp_type() == pb::FieldDescriptor::CPPTYPE_DOUBLE) {
    const pb::Reflection* reflection = value.owner.GetReflection();
    return number(value.index < 0 ? reflection->GetDouble(value.owner, &value.field)
                                  : reflection->GetRepeatedDouble(value.owner, &value.field, value.index));
  }
  std::string text;
  pb::TextFormat::PrintFieldValueToString(value.owner, &value.field, value.index, &text);
  return text;
}

bool has_field(const pb::Descriptor& type, const std::string& path) {
  const size_t dot = path.find('.');
  const std::string name = path.substr(0, std::min(dot, path.find('[')));
  const pb::FieldDescriptor* field = type.FindFieldByName(name);
  if (field == nullptr || dot == std::string::npos) return field != nullptr;
  return field->message_type() != nullptr && has_field(*field->message_type(), path.substr(dot + 1));
}

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

std::string at(const std::string& path, int index) {
  return path + "[" + std::to_string(index) + "]";
}

std::vector<std::string> field_names(const pb::Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

std::vector<std::string> enum_names(const pb::FieldDescriptor& field) {
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i)
    names.push_back(field.enum_type()->value(i)->name());
  return names;
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string string_fault(const std::string& text) {
  constexpr size_t kLongest = 4096;
  if (text.size() > kLongest) return "is longer than " + std::to_string(kLongest) + " bytes";
  if (!valid_utf8(text)) return "is not valid UTF-8";
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(text.begin(), text.end(), is_control)) return "holds a control character";
  return {};
}

}  // namespace toroid::config
