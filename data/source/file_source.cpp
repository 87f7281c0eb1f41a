#include "data/source/file_source.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/byte_stream.h"
#include "data/source/html.h"
#include "data/source/text_clean.h"

namespace toroid {
namespace {

class FileSource : public Source {
 public:
  FileSource(FileList list, ReadFile read) : list_(std::move(list)), read_(std::move(read)) {}

  size_t parts() const override { return list_.files.size(); }

  SourceCounts read(size_t part, const DocumentSink& sink) const override {
    SourceCounts counts;
    counts.files = 1;
    const auto counted = [&](Document&& document) {
      ++counts.documents;
      sink(std::move(document));
    };
    read_(list_.files.at(part), counted, counts);
    return counts;
  }

  SourceCounts listed() const override { return list_.skipped; }

  std::string identity() const override {
    std::string all;
    for (const FoundFile& file : list_.files) {
      all += file.name + '\0' + std::to_string(file.bytes) + '\0' + std::to_string(file.modified_ns) + '\n';
    }
    return std::to_string(list_.files.size()) + " files, " +
           std::to_string(XXH3_64bits(all.data(), all.size()));
  }

 private:
  FileList list_;
  ReadFile read_;
};

int64_t limit_of(const config::SourceConfig& config) {
  return config.maximum_megabytes() * 1'000'000;
}

std::string place_of(const FoundFile& file) {
  return "file " + in_quotes(file.path.string(), 4096);
}

// A whole file as one string of bytes, or false where it is binary, or of another encoding and to be dropped.
bool load(const config::SourceConfig& config, const FoundFile& file, std::string& text,
          SourceCounts& counts) {
  text = read_all(file.path, limit_of(config));
  counts.file_bytes += static_cast<int64_t>(text.size());
  if (const std::string_view encoding = wide_encoding(text); !encoding.empty()) {
    if (config.invalid_utf8() != config::SourceConfig::DROP) {
      throw UserError(place_of(file) + " " + is_wide_text(encoding) +
                      ", exclude it, or drop such files with invalid_utf8: DROP of its source");
    }
    ++counts.dropped_invalid;
    ++counts.not_utf8;
    return false;
  }
  if (looks_binary(text)) {
    ++counts.dropped_binary;
    return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<Source> make_file_source(const config::SourceConfig& config, const Path& path,
                                         const std::vector<std::string>& names, ReadFile read) {
  FilePatterns patterns{names, {config.exclude().begin(), config.exclude().end()}};
  if (config.include_size() > 0) patterns.include.assign(config.include().begin(), config.include().end());
  FileList list;
  if (!config.may_be_missing() || is_present(path)) list = list_files(path, patterns);
  if (list.files.empty() && !config.may_be_missing()) {
    std::string wanted;
    for (const std::string& pattern : patterns.include) wanted.append(" ").append(printable(pattern));
    throw UserError("source '" + printable(config.name()) + "': no file below '" +
                    printable(path.string(), 4096) + "' matches" + wanted);
  }
  return std::make_unique<FileSource>(std::move(list), std::move(read));
}

bool clean(const config::SourceConfig& config, const std::string& place, int64_t bad_escapes,
           std::string& text, SourceCounts& counts) {
  const auto nuls = static_cast<int64_t>(std::count(text.begin(), text.end(), '\0'));
  const int64_t not_utf8 = static_cast<int64_t>(repair_utf8(text)) - nuls;
  if (nuls + not_utf8 + bad_escapes > 0) {
    if (config.invalid_utf8() == config::SourceConfig::REFUSE) {
      std::string found;
      for (const auto& [count, what] : {std::pair{not_utf8, "bytes that are not UTF-8"},
                                        {bad_escapes, "escapes of no character"},
                                        {nuls, "NUL characters"}}) {
        if (count > 0) found += (found.empty() ? "" : ", ") + with_commas(count) + " " + what;
      }
      throw UserError(place + " holds damaged text (" + found +
                      "); mend it, or let invalid_utf8 of its source be REPAIR or DROP");
    }
    counts.not_utf8 += not_utf8 > 0 ? 1 : 0;
    counts.bad_escapes += bad_escapes > 0 ? 1 : 0;
    counts.nul += nuls > 0 ? 1 : 0;
    if (config.invalid_utf8() == config::SourceConfig::DROP) {
      ++counts.dropped_invalid;
      return false;
    }
    ++counts.repaired;
  }
  unix_line_ends(text);
  if (config.strip_terminal_escapes()) strip_terminal_escapes(text);
  return true;
}

std::unique_ptr<Source> make_text_source(const config::SourceConfig& config, const Path& path) {
  return make_file_source(config, path, {"*.txt", "*.text", "*.md", "*.rst"},
                          [config](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
                            Document document{{}, file.name};
                            if (!load(config, file, document.text, counts)) return;
                            if (!clean(config, place_of(file), 0, document.text, counts)) return;
                            tidy_blank_space(document.text);
                            sink(std::move(document));
                          });
}

std::unique_ptr<Source> make_code_source(const config::SourceConfig& config, const Path& path) {
  return make_file_source(config, path, {"*.c",  "*.h",    "*.cc", "*.cpp", "*.cxx",  "*.hpp", "*.cu", "*.go",
                                         "*.hs", "*.java", "*.jl", "*.js",  "*.lean", "*.ml",  "*.pl", "*.py",
                                         "*.rb", "*.rs",   "*.sh", "*.scm", "*.sql",  "*.ts"},
                          [config](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
                            Document document{{}, file.name};
                            if (!load(config, file, document.text, counts)) return;
                            if (!clean(config, place_of(file), 0, document.text, counts)) return;
                            sink(std::move(document));
                          });
}

std::unique_ptr<Source> make_html_source(const config::SourceConfig& config, const Path& path) {
  HtmlOptions options;
  options.drop.insert(config.html().drop().begin(), config.html().drop().end());
  options.keep_page_furniture = config.html().keep_page_furniture();
  return make_file_source(
      config, path, {"*.html", "*.htm", "*.xhtml"},
      [config, options](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
        std::string html;
        if (!load(config, file, html, counts)) return;
        const int64_t bad_references = replace_bad_references(html);
        if (!clean(config, place_of(file), bad_references, html, counts)) return;
        std::optional<std::string> text = html_text(html, options);
        if (!text) {
          ++counts.dropped_tangled;
          return;
        }
        repair_utf8(*text);  // what else a reference can spell
        unix_line_ends(*text);
        sink({std::move(*text), file.name});
      });
}

}  // namespace toroid
