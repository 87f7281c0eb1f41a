#include "data/source/registry.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/file_source.h"

namespace toroid {
namespace {

std::string kind_name(const config::SourceConfig& config) {
  if (config.has_custom()) return config.custom().name();
  std::string name = config::SourceConfig::Format_Name(config.format());
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

}  // namespace

void SourceRegistry::add(const std::string& name, MakeSource make) {
  require(makers_.emplace(name, std::move(make)).second, "a source kind is registered once");
}

std::unique_ptr<Source> SourceRegistry::make(const config::SourceConfig& config, const Path& corpus) const {
  const std::string kind = kind_name(config);
  const auto at = makers_.find(kind);
  if (at != makers_.end()) return at->second(config, corpus / config.path());
  std::vector<std::string> known;
  std::string list;
  for (const auto& [name, make] : makers_) {
    known.push_back(name);
    list += (list.empty() ? "" : ", ") + name;
  }
  const std::string near = did_you_mean(kind, known);
  throw UserError("source '" + printable(config.name()) + "' is of the unknown kind '" + printable(kind) +
                  "'" + (near.empty() ? "" : "; did you mean '" + near + "'?") + " (known: " + list + ")");
}

SourceRegistry builtin_sources() {
  SourceRegistry registry;
  registry.add("text", make_text_source);
  registry.add("code", make_code_source);
  registry.add("html", make_html_source);
  registry.add("jsonl", make_jsonl_source);
  return registry;
}

}  // namespace toroid
