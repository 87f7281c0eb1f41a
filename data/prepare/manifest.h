// manifest.json of a prepared directory: what was made, from what.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid {

struct PreparedSplit {
  int64_t documents = 0, text_bytes = 0, tokens = 0;
  std::string hash;  // of the .bin file
};

struct PreparedSource {
  std::string name;
  SourceCounts counts;
  FilterCounts filters;
  int64_t duplicates = 0, duplicate_bytes = 0;  // dropped
  PreparedSplit train, validation;
};

struct PreparedManifest {
  std::string config;     // config_hash()
  std::string inputs;     // hash of the names, sizes and times of what was read, by sources and filters
  std::string tokenizer;  // hash of tokenizer.model
  int64_t vocab = 0;
  std::vector<PreparedSource> sources;
  // Lines of CORPUS/PACKAGES.tsv, where launch/fetch_corpus.sh left one: group, package, version, licence,
  // ...
  std::vector<std::string> packages;
};

Path manifest_path(const Path& directory);
void write_prepared_manifest(const Path& directory, const PreparedManifest& manifest);
// Nothing where there is none; UserError where it is not one.
std::optional<PreparedManifest> read_prepared_manifest(const Path& directory);

}  // namespace toroid
