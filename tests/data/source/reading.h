// Sources as tests read them: through the filters of their format, and those that the config adds.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "data/data.pb.h"
#include "data/filter/registry.h"
#include "data/source/registry.h"

namespace toroid {

struct Read {
  std::vector<Document> documents;
  SourceCounts counts;
  FilterCounts filters;

  // Documents that a filter dropped, and those of which it noted this.
  int64_t dropped(const std::string& filter) const {
    int64_t all = 0;
    for (const auto& [why, count] : filters.dropped) all += why.filter == filter ? count : 0;
    return all;
  }
  int64_t noted(const std::string& what) const {
    int64_t all = 0;
    for (const auto& [why, count] : filters.noted) all += why.reason == what ? count : 0;
    return all;
  }
};

inline config::SourceConfig parse_source(const std::string& text) {
  config::SourceConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

inline Read read_everything(const std::string& config, const Path& corpus) {
  const config::SourceConfig wanted = parse_source(config);
  const std::unique_ptr<Source> source = builtin_sources().make(wanted, corpus);
  FilterChain chain = source->cleaning();
  for (const config::FilterConfig& filter : wanted.filter()) {
    chain.add(builtin_filters().make(filter, "data.source[0].filter[0]"));
  }
  Read read;
  read.counts = source->listed();
  for (size_t part = 0; part < source->parts(); ++part) {
    const FilteredCounts counts = read_filtered(
        *source, part, chain, [&](Document&& document) { read.documents.push_back(std::move(document)); });
    read.counts += counts.source;
    read.filters += counts.filters;
  }
  return read;
}

// The UserError's text, or "" where there is none.
inline std::string failure(const std::string& config, const Path& corpus) {
  try {
    read_everything(config, corpus);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

inline void write(const Path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace toroid
