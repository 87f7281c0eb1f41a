// Sources as tests read them.
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
#include "data/source/registry.h"

namespace toroid {

struct Read {
  std::vector<Document> documents;
  SourceCounts counts;
};

inline config::SourceConfig parse_source(const std::string& text) {
  config::SourceConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

inline Read read_everything(const std::string& config, const Path& corpus) {
  const std::unique_ptr<Source> source = builtin_sources().make(parse_source(config), corpus);
  Read read;
  read.counts = source->listed();
  for (size_t part = 0; part < source->parts(); ++part) {
    read.counts +=
        source->read(part, [&](Document&& document) { read.documents.push_back(std::move(document)); });
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
