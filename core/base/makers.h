// What makes the things that a config names, by name: the inside of a registry.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {

template <class Make>
class Makers {
 public:
  // `kind` is what they make, for messages: "filter".
  explicit Makers(std::string kind) : kind_(std::move(kind)) {}

  // InternalError where the name is taken.
  void add(const std::string& name, Make make) {
    if (!makers_.emplace(name, std::move(make)).second) {
      throw InternalError(kind_ + " \"" + name + "\" is registered twice");
    }
  }

  bool has(const std::string& name) const { return makers_.count(name) != 0; }

  // UserError where there is none; it begins with `found`, the config's words: "data.source[0].format is
  // HTML".
  const Make& at(const std::string& name, const std::string& found) const {
    const auto maker = makers_.find(name);
    if (maker != makers_.end()) return maker->second;
    std::vector<std::string> known;
    std::string list;
    for (const auto& [each, make] : makers_) {
      known.push_back(each);
      list += (list.empty() ? "" : ", ") + each;
    }
    const std::string near = did_you_mean(name, known);
    throw UserError(found + ", which no " + kind_ + " is registered as" +
                    (near.empty() ? "" : "; did you mean \"" + near + "\"?") + " (registered: " + list + ")");
  }

 private:
  std::string kind_;
  std::map<std::string, Make> makers_;
};

}  // namespace toroid
