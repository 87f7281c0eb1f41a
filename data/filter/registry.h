// The filters that a config can name. There is no global registry: whoever runs `prepare` passes one, and
// adds its own to it first. One more is a Filter, one add() and, in a config,
//   filter { custom { name: "mine" parameter { key: "words" value: "words.txt" } } }
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/base/makers.h"
#include "data/filter/chain.h"
#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// Makes a filter of one kind, and checks its values: UserError with `path`, the message's place in the config
// ("data.source[0].filter[1].length"), where one is out of bounds.
using MakeFilter =
    std::function<std::unique_ptr<Filter>(const config::FilterConfig& config, const std::string& path)>;

class FilterRegistry {
 public:
  // InternalError where the name is taken.
  void add(const std::string& name, MakeFilter make) { makers_.add(name, std::move(make)); }
  bool has(const std::string& name) const { return makers_.has(name); }
  // The entry named after the arm of `config` that is set or, for `custom`, the entry of that name. UserError
  // with `path` ("data.source[0].filter[1]") where there is none.
  NamedFilter make(const config::FilterConfig& config, const std::string& path) const;

 private:
  Makers<MakeFilter> makers_{"filter"};
};

// One for each arm of FilterConfig.
FilterRegistry builtin_filters();

}  // namespace toroid
