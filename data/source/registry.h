// The kinds of source that a config can name. There is no global registry: whoever runs `prepare` passes one,
// and adds its own kinds to it first.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/base/io/file.h"
#include "core/base/makers.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

// Makes a source of one kind; `path` is the config's path below data.corpus.
using MakeSource =
    std::function<std::unique_ptr<Source>(const config::SourceConfig& config, const Path& path)>;

class SourceRegistry {
 public:
  // InternalError where the name is taken.
  void add(const std::string& name, MakeSource make) { makers_.add(name, std::move(make)); }
  bool has(const std::string& name) const { return makers_.has(name); }
  // The entry named as the config's `format` is written, "TEXT", or after `custom { name }`. UserError where
  // there is none.
  std::unique_ptr<Source> make(const config::SourceConfig& config, const Path& corpus) const;

 private:
  Makers<MakeSource> makers_{"source"};
};

// One for each value of SourceConfig.Format.
SourceRegistry builtin_sources();

}  // namespace toroid
