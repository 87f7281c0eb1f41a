#include "data/source/file_source.h"

#include <xxhash.h>

#include <filesystem>
#include <utility>

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

// A whole file as one string of bytes, or false where it is binary.
bool load(const config::SourceConfig& config, const FoundFile& file, std::string& text,
          SourceCounts& counts) {
  text = read_all(file.path, limit_of(config));
  counts.file_bytes += static_cast<int64_t>(text.size());
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

bool clean(const config::SourceConfig& config, std::string& text, SourceCounts& counts) {
  if (repair_utf8(text) > 0) {
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
                            if (!clean(config, document.text, counts)) return;
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
                            if (clean(config, document.text, counts)) sink(std::move(document));
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
        if (!load(config, file, html, counts) || !clean(config, html, counts)) return;
        std::optional<std::string> text = html_text(html, options);
        if (!text) {
          ++counts.dropped_tangled;
          return;
        }
        repair_utf8(*text);  // "&#0;" and what else a reference can spell
        unix_line_ends(*text);
        sink({std::move(*text), file.name});
      });
}

}  // namespace toroid
