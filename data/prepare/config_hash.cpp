#include "data/prepare/config_hash.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "core/base/range.h"
#include "data/dedup/dedup.h"

namespace toroid {
namespace {

namespace pb = google::protobuf;

// To be raised when the same config and text give other data: a filter that decides otherwise, say.
constexpr int64_t kPrepareVersion = 2;

constexpr UndecidingField kUndeciding[] = {
    {"directory", "where the result lies"},
    {"corpus", "where the input lies; what is found there has a hash of its own"},
    {"threads", "the result is the same for any number"},
    {"skip", "sequences that training leaves out of what was prepared"},
    {"source.weight", "how training mixes what was prepared"},
    {"source.may_be_missing", "whether an absent path is an error; what is found has a hash of its own"},
};

bool decides(const std::string& path) {
  return std::none_of(std::begin(kUndeciding), std::end(kUndeciding),
                      [&](const UndecidingField& field) { return path == field.path; });
}

// A config as text that says each value once: length first, so that no two configs give the same.
class FieldList {
 public:
  void add(const std::string& value) { all_ += std::to_string(value.size()) + ":" + value + "\n"; }

  void add(const pb::Message& message, const std::string& path) {
    std::vector<const pb::FieldDescriptor*> fields;
    fields.reserve(static_cast<size_t>(message.GetDescriptor()->field_count()));
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      fields.push_back(message.GetDescriptor()->field(i));
    }
    std::sort(fields.begin(), fields.end(),
              [](const auto* a, const auto* b) { return a->number() < b->number(); });
    for (const pb::FieldDescriptor* field : fields) {
      const std::string here = path.empty() ? field->name() : path + "." + field->name();
      if (decides(here)) add(message, *field, here);
    }
    add(std::string("end"));
  }

  const std::string& all() const { return all_; }

 private:
  void add(const pb::Message& message, const pb::FieldDescriptor& field, const std::string& path) {
    const pb::Reflection& reflection = *message.GetReflection();
    const bool is_message = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (field.is_repeated()) {
      const int size = reflection.FieldSize(message, &field);
      add(field.name() + " " + std::to_string(size));
      for (int i = 0; i < size; ++i) {
        if (is_message) {
          add(reflection.GetRepeatedMessage(message, &field, i), path);
        } else {
          add(literal(message, field, i));
        }
      }
      return;
    }
    if (field.containing_oneof() != nullptr && !reflection.HasField(message, &field)) return;
    add(field.name());
    if (is_message) {
      add(reflection.GetMessage(message, &field), path);  // of defaults, where it is not set
    } else {
      add(literal(message, field, -1));
    }
  }

  static std::string literal(const pb::Message& message, const pb::FieldDescriptor& field, int index) {
    if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_DOUBLE) {  // in full
      const pb::Reflection& reflection = *message.GetReflection();
      return number(index < 0 ? reflection.GetDouble(message, &field)
                              : reflection.GetRepeatedDouble(message, &field, index));
    }
    std::string text;
    pb::TextFormat::PrintFieldValueToString(message, &field, index, &text);
    return text;
  }

  std::string all_;
};

}  // namespace

std::span<const UndecidingField> undeciding_fields() {
  return kUndeciding;
}

std::string config_hash(const pb::Message& data) {
  FieldList fields;
  fields.add(std::to_string(kPrepareVersion));
  fields.add(data, "");
  return hex(content_hash(fields.all()));
}

}  // namespace toroid
