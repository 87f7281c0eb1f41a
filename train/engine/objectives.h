// Objectives by name. One more is one file and one add(); in a config:
//   train { objective { custom { name: "mine" parameter { key: "weight" value: 0.5 } } } }
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/model/objective.h"

namespace toroid::config {
class ObjectiveConfig;
}

namespace toroid::train {

class ObjectiveRegistry {
 public:
  using Make = std::function<std::unique_ptr<Objective>(const config::ObjectiveConfig&)>;
  // InternalError where `name` is taken.
  void add(const std::string& name, Make make);
  // The entry named after the config's arm or, for `custom`, the entry of that name; `next_token` where no
  // arm is set. UserError where there is no entry.
  std::unique_ptr<Objective> make(const config::ObjectiveConfig& config) const;

 private:
  std::string names() const;

  std::map<std::string, Make> makers_;
};

ObjectiveRegistry builtin_objectives();

}  // namespace toroid::train
