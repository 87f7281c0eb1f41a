#include "data/source/jsonl_source.h"

#include <string>
#include <string_view>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/byte_stream.h"
#include "data/source/cleaning.h"
#include "data/source/file_source.h"
#include "data/source/json_line.h"

namespace toroid {
namespace {

using config::JsonlConfig;

// Files that are not lines of JSON at all, whatever becomes of single bad lines.
void check_beginning(const std::string& place, std::string_view beginning) {
  if (const std::string_view encoding = wide_encoding(beginning); !encoding.empty()) {
    throw UserError(place + " " + is_wide_text(encoding) + ", or exclude it");
  }
  const std::string_view format = compressed_format(beginning);
  if (format.empty()) return;
  const bool known = format == "gzip" || format == "zstd";
  throw UserError(place + " is " + std::string(format) + " data, but lines of JSON are expected; " +
                  (known ? "end its name in " + std::string(format == "gzip" ? ".gz" : ".zst") +
                               ", so that it is decompressed"
                         : "decompress it") +
                  ", or exclude it");
}

// What helps where the whole file, and not one line, has another form.
std::string hint(std::string_view first_line, const JsonLine& found) {
  const size_t begin = first_line.find_first_not_of(" \t");
  if (found.fault == JsonLine::Fault::none || begin == std::string_view::npos) return "";
  if (first_line[begin] == '[') return "; if the file is one JSON array, make lines of it: jq -c '.[]' FILE";
  if (first_line[begin] == '{' && found.cut) {
    return "; if its objects go over several lines, make one of each: jq -c . FILE";
  }
  return "";
}

void read_lines(const config::SourceConfig& config, const FoundFile& file, const DocumentSink& sink,
                SourceCounts& counts) {
  const int64_t limit = config.maximum_megabytes() * 1'000'000;
  const std::string& field = config.jsonl().text_field();
  const std::string name = in_quotes(file.path.string(), 4096);
  LineReader lines(file.path, limit);
  check_beginning("file " + name, lines.beginning());
  const auto place = [&] { return "line " + std::to_string(lines.line_number()) + " of " + name; };
  const auto skip = [&](const std::string& why, int64_t& count) {
    if (config.jsonl().on_bad_line() != JsonlConfig::SKIP) throw UserError(why);
    if (counts.first_skipped.empty()) counts.first_skipped = why;
    ++count;
  };
  std::string line;
  bool first = true;  // no line has been looked at yet
  while (lines.next(line)) {
    if (lines.too_long()) {
      skip(place() + " is longer than " + std::to_string(limit) +
               " bytes; split it or raise maximum_megabytes of its source",
           counts.dropped_long);
      continue;
    }
    // A byte-order mark stands at the start of the file, or of one of the files that were joined to it.
    if (line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    JsonLine found = read_json_line(line, field);
    const std::string more = std::exchange(first, false) ? hint(line, found) : "";
    if (found.fault != JsonLine::Fault::none) {
      skip(place() + " is not a document: " + found.why + "; expected an object such as {\"" +
               printable(field) + "\": \"...\"}" + more,
           found.fault == JsonLine::Fault::not_json ? counts.dropped_not_json : counts.dropped_no_text);
      continue;
    }
    sink({std::move(found.text), file.name + ":" + std::to_string(lines.line_number()), place(),
          found.half_surrogates});
  }
  counts.file_bytes += lines.bytes();
}

}  // namespace

std::unique_ptr<Source> make_jsonl_source(const config::SourceConfig& config, const Path& path) {
  FilterChain cleaning;
  add_text_cleaning(config, cleaning);
  return make_file_source(
      config, path, {"*.jsonl", "*.ndjson"},
      [config](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
        read_lines(config, file, sink, counts);
      },
      std::move(cleaning));
}

}  // namespace toroid
