#include "data/source/registry.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/code_source.h"
#include "data/source/html_source.h"
#include "data/source/jsonl_source.h"
#include "data/source/text_source.h"

namespace toroid {

std::unique_ptr<Source> SourceRegistry::make(const config::SourceConfig& config, const Path& corpus) const {
  const std::string source = "source " + in_quotes(config.name());
  const Path path = corpus / config.path();
  if (config.has_format()) {
    const std::string& format = config::SourceConfig::Format_Name(config.format());
    return makers_.at(format, source + " has format " + format)(config, path);
  }
  if (!config.has_custom()) throw UserError(source + " has neither format nor custom");
  const std::string& name = config.custom().name();
  config::SourceConfig::Format builtin{};
  if (config::SourceConfig::Format_Parse(name, &builtin)) {
    throw UserError(source + " has custom.name " + in_quotes(name) +
                    ", which is built in: write format: " + name);
  }
  return makers_.at(name, source + " has custom.name " + in_quotes(name))(config, path);
}

SourceRegistry builtin_sources() {
  SourceRegistry registry;
  registry.add("TEXT", make_text_source);
  registry.add("CODE", make_code_source);
  registry.add("HTML", make_html_source);
  registry.add("JSONL", make_jsonl_source);
  return registry;
}

}  // namespace toroid
