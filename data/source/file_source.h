// What sources of files below a folder have in common: one part a file. docs/corpus.md lists the names each
// reads by default.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "data/source/files.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

// Reads one file into documents; throws UserError that names the file where it cannot be read. Must be
// callable from several threads.
using ReadFile = std::function<void(const FoundFile& file, const DocumentSink& sink, SourceCounts& counts)>;

// The file's bytes, decompressed, as one document; UserError above the config's maximum_megabytes.
ReadFile whole_file(const config::SourceConfig& config);

// A source of the files that `config` asks for, or of `names` where it does not say; UserError where there is
// none.
std::unique_ptr<Source> make_file_source(const config::SourceConfig& config, const Path& path,
                                         const std::vector<std::string>& names, ReadFile read,
                                         FilterChain cleaning);

}  // namespace toroid
