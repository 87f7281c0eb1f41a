#include "data/filter/registry.h"

#include <google/protobuf/descriptor.h>

#include "core/base/arm.h"
#include "data/filter/binary.h"
#include "data/filter/blank_space.h"
#include "data/filter/damage.h"
#include "data/filter/filter.pb.h"
#include "data/filter/gopher_quality.h"
#include "data/filter/gopher_repetition.h"
#include "data/filter/length.h"
#include "data/filter/line_ends.h"
#include "data/filter/terminal_escapes.h"

namespace toroid {

NamedFilter FilterRegistry::make(const config::FilterConfig& config, const std::string& path) const {
  const std::string arm = arm_of(config, "kind");
  if (arm.empty()) {
    throw UserError(path +
                    " is empty; say which filter it is, such as filter { length { minimum_bytes: 200 } }");
  }
  const std::string at = path + "." + arm;
  if (arm != "custom") return {arm, makers_.at(arm, path + " is " + arm)(config, at)};
  const std::string& name = config.custom().name();
  if (config::FilterConfig::descriptor()->FindFieldByName(name) != nullptr) {
    throw UserError(at + ".name is " + in_quotes(name) + ", which is built in: write filter { " + name +
                    " { ... } }");
  }
  return {name, makers_.at(name, at + ".name is " + in_quotes(name))(config, at)};
}

FilterRegistry builtin_filters() {
  FilterRegistry registry;
  registry.add("binary", make_binary_filter);
  registry.add("damage", make_damage_filter);
  registry.add("line_ends", make_line_ends_filter);
  registry.add("terminal_escapes", make_terminal_escapes_filter);
  registry.add("blank_space", make_blank_space_filter);
  registry.add("length", make_length_filter);
  registry.add("gopher_repetition", make_gopher_repetition_filter);
  registry.add("gopher_quality", make_gopher_quality_filter);
  return registry;
}

}  // namespace toroid
