// Sources that are files below a folder: one part a file. docs/corpus.md lists the names each reads by
// default.
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

// Reads one file into documents, raw bytes already decompressed where it uses read_all; throws UserError that
// names the file where it cannot be read. Must be callable from several threads.
using ReadFile = std::function<void(const FoundFile& file, const DocumentSink& sink, SourceCounts& counts)>;

// A source of the files that `config` asks for, or of `names` where it does not say; UserError where there is
// none.
std::unique_ptr<Source> make_file_source(const config::SourceConfig& config, const Path& path,
                                         const std::vector<std::string>& names, ReadFile read);

// Bytes of a file as clean text by the rules of `config`, or false (and counted) where they are to be
// dropped. `bad_escapes` of the text stood for no character and became U+FFFD already. UserError with
// `place`, such as "file 'a.txt'", where the text is damaged and the config refuses that.
bool clean(const config::SourceConfig& config, const std::string& place, int64_t bad_escapes,
           std::string& text, SourceCounts& counts);

std::unique_ptr<Source> make_text_source(const config::SourceConfig& config, const Path& path);
std::unique_ptr<Source> make_code_source(const config::SourceConfig& config, const Path& path);
std::unique_ptr<Source> make_html_source(const config::SourceConfig& config, const Path& path);
std::unique_ptr<Source> make_jsonl_source(const config::SourceConfig& config, const Path& path);

}  // namespace toroid
