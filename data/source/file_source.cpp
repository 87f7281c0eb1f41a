#include "data/source/file_source.h"

#include <xxhash.h>

#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/byte_stream.h"

namespace toroid {
namespace {

class FileSource : public Source {
 public:
  FileSource(FileList list, ReadFile read, FilterChain cleaning)
      : list_(std::move(list)), read_(std::move(read)), cleaning_(std::move(cleaning)) {}

  size_t parts() const override { return list_.files.size(); }

  SourceCounts read(size_t part, const DocumentSink& sink) const override {
    SourceCounts counts;
    counts.files = 1;
    read_(list_.files.at(part), sink, counts);
    return counts;
  }

  FilterChain cleaning() const override { return cleaning_; }
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
  FilterChain cleaning_;
};

}  // namespace

ReadFile whole_file(const config::SourceConfig& config) {
  const int64_t limit = config.maximum_megabytes() * 1'000'000;
  return [limit](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
    Document document{read_all(file.path, limit), file.name, "file " + in_quotes(file.path.string(), 4096)};
    counts.file_bytes += static_cast<int64_t>(document.text.size());
    sink(std::move(document));
  };
}

std::unique_ptr<Source> make_file_source(const config::SourceConfig& config, const Path& path,
                                         const std::vector<std::string>& names, ReadFile read,
                                         FilterChain cleaning) {
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
  return std::make_unique<FileSource>(std::move(list), std::move(read), std::move(cleaning));
}

}  // namespace toroid
