#include "train/config/load.h"

#include "core/base/error.h"
#include "train/config/override.h"
#include "train/config/reader.h"
#include "train/config/resolve.h"

namespace toroid::config {
namespace {

// The messages of validate() begin with the path of the value, whose origin says where to go and change it.
std::string with_origin(const std::string& message, const std::string& name, const Origins& origins) {
  const auto found = origins.find(message.substr(0, message.find(' ')));
  const bool in_a_file = found != origins.end() && found->second.find(':') != std::string::npos;
  return (in_a_file ? found->second : name) + ": " + message;
}

}  // namespace

Resolved load_text(std::string_view text, const std::string& name, std::span<const std::string> overrides) {
  Resolved resolved;
  resolved.origins = read_text(text, name, resolved.run);
  for (const std::string& override : overrides) apply_override(override, resolved.run, resolved.origins);
  resolve(resolved.run, resolved.origins);
  try {
    validate(resolved.run);
  } catch (const UserError& error) {
    throw UserError(with_origin(error.what(), name, resolved.origins));
  }
  return resolved;
}

Resolved load(const Path& file, std::span<const std::string> overrides) {
  return load_text(read_file(file, kLargestFile), file.string(), overrides);
}

}  // namespace toroid::config
