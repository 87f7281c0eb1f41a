// JSONL: one object a line with its text in one field. A streaming parse keeps that field alone, so neither
// depth nor the other fields cost memory.
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/source/byte_stream.h"
#include "data/source/file_source.h"
#include "data/source/text_clean.h"

namespace toroid {
namespace {

using nlohmann::json;

// Finds `field` at the top of one object.
class FieldFinder {
 public:
  explicit FieldFinder(const std::string& field) : field_(field) {}

  bool null() { return other("null"); }
  bool boolean(bool) { return other("a boolean"); }
  bool number_integer(json::number_integer_t) { return other("a number"); }
  bool number_unsigned(json::number_unsigned_t) { return other("a number"); }
  bool number_float(json::number_float_t, const std::string&) { return other("a number"); }
  bool binary(json::binary_t&) { return other("binary data"); }
  bool string(std::string& value) {
    if (depth_ == 0) return fail("it is a string, not an object");
    if (depth_ == 1 && wanted_) {
      if (found_) return fail("it has '" + printable(field_) + "' twice");
      text_ = std::move(value), found_ = true;
    }
    return true;
  }
  bool start_object(size_t) {
    if (!other("an object")) return false;
    ++depth_;
    return true;
  }
  bool start_array(size_t) {
    if (!other("an array")) return false;
    ++depth_;
    return true;
  }
  bool end_object() { return --depth_, true; }
  bool end_array() { return --depth_, true; }
  bool key(std::string& name) {
    if (depth_ == 1) wanted_ = name == field_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) {
    return fail("it is not JSON at or before its byte " + std::to_string(position));
  }

  bool found() const { return found_; }
  std::string& text() { return text_; }
  const std::string& why() const { return why_; }

 private:
  // Anything but a string: wrong as the wanted field, and at the top unless it is the object itself.
  bool other(const std::string& what) {
    if (depth_ == 0 && what != "an object") return fail("it is " + what + ", not an object");
    if (depth_ == 1 && wanted_) return fail("its '" + printable(field_) + "' is " + what + ", not a string");
    return true;
  }
  bool fail(const std::string& why) {
    why_ = why;
    return false;
  }

  const std::string& field_;
  std::string text_, why_;
  int64_t depth_ = 0;
  bool wanted_ = false, found_ = false;
};

void read_lines(const config::SourceConfig& config, const FoundFile& file, const DocumentSink& sink,
                SourceCounts& counts) {
  LineReader lines(file.path, config.maximum_megabytes() * 1'000'000);
  const std::string& field = config.jsonl().text_field();
  std::string line;
  while (lines.next(line)) {
    if (lines.line_number() == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const bool whole = valid_utf8(line);
    if (!whole && config.invalid_utf8() == config::SourceConfig::DROP) {
      ++counts.dropped_invalid;
      continue;
    }
    if (!whole) {
      repair_utf8(line);
      ++counts.repaired;
    }
    FieldFinder finder(field);
    bool parsed = json::sax_parse(line, &finder);
    std::string why = finder.why();
    if (parsed && !finder.found()) why = "it has no '" + printable(field) + "'", parsed = false;
    if (!parsed) {
      throw UserError("line " + std::to_string(lines.line_number()) + " of '" +
                      printable(file.path.string(), 4096) + "' is not a document: " + why +
                      "; expected an object such as {\"" + printable(field) + "\": \"...\"}");
    }
    Document document{std::move(finder.text()), file.name + ":" + std::to_string(lines.line_number())};
    if (clean(config, document.text, counts)) sink(std::move(document));
  }
  counts.file_bytes += lines.bytes();
}

}  // namespace

std::unique_ptr<Source> make_jsonl_source(const config::SourceConfig& config, const Path& path) {
  return make_file_source(config, path, {"*.jsonl", "*.ndjson"},
                          [config](const FoundFile& file, const DocumentSink& sink, SourceCounts& counts) {
                            read_lines(config, file, sink, counts);
                          });
}

}  // namespace toroid
