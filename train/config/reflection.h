// Walks config messages by reflection. A path is field names joined by dots, with [i] after a repeated one.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace toroid::config {

// One scalar of a message: `index` is -1 where the field is not repeated.
struct Value {
  const google::protobuf::Message& owner;
  const google::protobuf::FieldDescriptor& field;
  int index;
  std::string path;
};

// Calls `see` for every scalar that is set, in the order of field numbers.
void for_each_value(const google::protobuf::Message& message, const std::string& path,
                    const std::function<void(const Value&)>& see);

// As text format writes it: 256, 1e-06, true, GELU_TANH, "a string".
std::string literal(const Value& value);

// Whether `path` leads to a field; repeated fields may stand without [i].
bool has_field(const google::protobuf::Descriptor& type, const std::string& path);

std::string join(const std::string& path, const std::string& name);
std::string at(const std::string& path, int index);

std::vector<std::string> field_names(const google::protobuf::Descriptor& type);
// What an enum field may hold.
std::vector<std::string> enum_names(const google::protobuf::FieldDescriptor& field);
// "one, two, three"
std::string list(const std::vector<std::string>& names);

// Why a string may not stand in a config ("is longer than 4096 bytes"), or "" where it may.
std::string string_fault(const std::string& text);

}  // namespace toroid::config
