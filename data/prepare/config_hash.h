// Which config a prepared directory was made from.
#pragma once

#include <span>
#include <string>

namespace google::protobuf {
class Message;
}

namespace toroid {

struct UndecidingField {
  const char* path;  // below DataConfig, without indices: "source.weight"
  const char* why;   // what it is that another value leaves prepared data as it was
};

// The fields that prepared data does not depend on. Whatever is not in this list counts, so that a field that
// is new does by default.
std::span<const UndecidingField> undeciding_fields();

// Hash of every other field of `data`, a config::DataConfig. A field that is not set counts as its default,
// an arm of a oneof as absent.
std::string config_hash(const google::protobuf::Message& data);

}  // namespace toroid
