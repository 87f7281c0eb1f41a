// The kinds of source that a config can name. There is no global registry: whoever runs `prepare` passes one,
// and adds its own kinds to it first.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/io/file.h"
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
  void add(const std::string& name, MakeSource make);
  bool has(const std::string& name) const { return makers_.count(name) != 0; }
  // The source of `config`, whose kind is `format` or `custom { name }`; UserError where there is no such
  // kind.
  std::unique_ptr<Source> make(const config::SourceConfig& config, const Path& corpus) const;

 private:
  std::map<std::string, MakeSource> makers_;
};

// text, code, html and jsonl.
SourceRegistry builtin_sources();

}  // namespace toroid
