#include "data/prepare/manifest.h"

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/base/io/json.h"

namespace toroid {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kVersion = 1;
constexpr int64_t kMost = int64_t{1} << 60;
constexpr const char* kFormat = "toroid prepared data";

// Names and places of the counts, once for writing and reading.
constexpr std::array<std::pair<const char*, int64_t SourceCounts::*>, 8> kCounts = {{
    {"files", &SourceCounts::files},
    {"file_bytes", &SourceCounts::file_bytes},
    {"documents", &SourceCounts::documents},
    {"skipped_links", &SourceCounts::skipped_links},
    {"skipped_special", &SourceCounts::skipped_special},
    {"dropped_not_json", &SourceCounts::dropped_not_json},
    {"dropped_no_text", &SourceCounts::dropped_no_text},
    {"dropped_long", &SourceCounts::dropped_long},
}};

Json to_json(const PreparedSplit& split) {
  return {{"documents", split.documents},
          {"text_bytes", split.text_bytes},
          {"tokens", split.tokens},
          {"hash", split.hash}};
}

Json to_json(const std::map<FilterReason, int64_t>& counts) {
  Json list = Json::array();
  for (const auto& [why, documents] : counts) {
    list.push_back({{"filter", why.filter}, {"reason", why.reason}, {"documents", documents}});
  }
  return list;
}

Json to_json(const PreparedSource& source) {
  Json counts;
  for (const auto& [name, member] : kCounts) counts[name] = source.counts.*member;
  if (!source.counts.first_skipped.empty()) counts["first_skipped"] = source.counts.first_skipped;
  return {
      {"name", source.name},
      {"counts", counts},
      {"filters", {{"dropped", to_json(source.filters.dropped)}, {"noted", to_json(source.filters.noted)}}},
      {"duplicates", source.duplicates},
      {"duplicate_bytes", source.duplicate_bytes},
      {"train", to_json(source.train)},
      {"validation", to_json(source.validation)}};
}

int64_t count(const JsonView& object, std::string_view key) {
  return object.at(key).as_integer(0, kMost);
}

PreparedSplit split_from(const JsonView& json) {
  return {count(json, "documents"), count(json, "text_bytes"), count(json, "tokens"),
          json.at("hash").as_string()};
}

std::map<FilterReason, int64_t> filter_counts_from(const JsonView& list) {
  std::map<FilterReason, int64_t> counts;
  for (const JsonView& entry : list.elements()) {
    counts[{entry.at("filter").as_string(), entry.at("reason").as_string()}] = count(entry, "documents");
  }
  return counts;
}

PreparedSource source_from(const JsonView& json) {
  PreparedSource source;
  source.name = json.at("name").as_string();
  const JsonView counts = json.at("counts");
  for (const auto& [name, member] : kCounts) {
    // A manifest of an earlier version has others.
    if (counts.find(name)) source.counts.*member = count(counts, name);
  }
  if (const auto why = counts.find("first_skipped")) source.counts.first_skipped = why->as_string();
  if (const auto filters = json.find("filters")) {
    source.filters = {filter_counts_from(filters->at("dropped")), filter_counts_from(filters->at("noted"))};
  }
  source.duplicates = count(json, "duplicates");
  source.duplicate_bytes = count(json, "duplicate_bytes");
  source.train = split_from(json.at("train"));
  source.validation = split_from(json.at("validation"));
  return source;
}

}  // namespace

Path manifest_path(const Path& directory) {
  return directory / "manifest.json";
}

void write_prepared_manifest(const Path& directory, const PreparedManifest& manifest) {
  Json sources = Json::array();
  for (const PreparedSource& source : manifest.sources) sources.push_back(to_json(source));
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"config", manifest.config},
                     {"inputs", manifest.inputs},
                     {"tokenizer", manifest.tokenizer},
                     {"vocab", manifest.vocab},
                     {"sources", sources},
                     {"packages", manifest.packages}};
  write_file(manifest_path(directory), json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<PreparedManifest> read_prepared_manifest(const Path& directory) {
  const Path path = manifest_path(directory);
  if (!is_present(path)) return std::nullopt;
  const JsonDocument document = JsonDocument::read(path);
  const JsonView root = document.root();
  if (root.at("format").as_string() != kFormat)
    root.at("format").refuse("is not '" + std::string(kFormat) + "'");
  if (const int64_t version = root.at("version").as_integer(); version != kVersion) {
    root.at("version").refuse("is " + std::to_string(version) + ", but this program reads version " +
                              std::to_string(kVersion) + "; run toroid prepare --again");
  }
  PreparedManifest manifest;
  manifest.config = root.at("config").as_string();
  manifest.inputs = root.at("inputs").as_string();
  manifest.tokenizer = root.at("tokenizer").as_string();
  manifest.vocab = root.at("vocab").as_integer(1, int64_t{1} << 31);
  for (const JsonView& source : root.at("sources").elements())
    manifest.sources.push_back(source_from(source));
  for (const JsonView& line : root.at("packages").elements()) manifest.packages.push_back(line.as_string());
  return manifest;
}

}  // namespace toroid
