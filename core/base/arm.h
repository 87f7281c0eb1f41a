// Which arm of a oneof a config has set: the name that a registry knows what it makes by.
#pragma once

#include <string>

namespace toroid {

// The field's name in the schema; "" where no arm is set. Includes nothing of protobuf: Config brings it.
template <class Config>
std::string arm_of(const Config& config, const char* oneof) {
  const auto* const arms = Config::descriptor()->FindOneofByName(oneof);
  const auto* const field = config.GetReflection()->GetOneofFieldDescriptor(config, arms);
  return field == nullptr ? std::string() : field->name();
}

}  // namespace toroid
