// Text in, tokenizer and token shards out:
//
//   sources -> filters -> exact duplicates dropped -> train / validation -> tokenizer -> token shards
//
// The result is a function of the config and of the documents alone, whatever the number of threads. In
// data.directory: tokenizer.model, SOURCE/{train,validation}.{bin,idx,documents,json}, manifest.json (written
// last).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/filter/registry.h"
#include "data/prepare/manifest.h"
#include "data/source/registry.h"

namespace toroid::config {
class DataConfig;
}

namespace toroid {

struct PrepareOptions {
  bool again = false;  // also where the directory is up to date
};

struct Prepared {
  bool was_there = false;  // nothing changed since an earlier run, and nothing was done
  PreparedManifest manifest;
};

// UserError for bad config or documents, SystemError where the machine fails; data.directory then has no
// manifest.
Prepared prepare(const config::DataConfig& config, const SourceRegistry& source_kinds,
                 const FilterRegistry& filter_kinds, const PrepareOptions& options = {});

// What training asks before it starts: UserError unless data.directory was prepared from this config.
PreparedManifest check_prepared(const config::DataConfig& config);

// What was left out of a source and by whom, for people: "symbolic links 3; binary: NUL near the start 2".
std::string left_out(const PreparedSource& source);

// A table of the sources, for people.
std::string prepared_table(const PreparedManifest& manifest);

}  // namespace toroid
