// A source of documents: files of text, code or HTML, lines of JSONL, or whatever a SourceRegistry entry
// reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace toroid {

struct Document {
  std::string text;  // valid UTF-8 without NUL
  std::string id;    // where it comes from: path below the source, with ":line" for JSONL
};

// What a source met. Everything that is left out is counted.
struct SourceCounts {
  int64_t files = 0;             // read
  int64_t file_bytes = 0;        // read, after decompression
  int64_t documents = 0;         // handed on
  int64_t skipped_links = 0;     // symbolic links to folders, to nothing, or out of the source's folder
  int64_t skipped_special = 0;   // FIFOs, sockets, devices
  int64_t dropped_binary = 0;    // files with NUL bytes near their start
  int64_t dropped_invalid = 0;   // damaged text, where the config says DROP
  int64_t dropped_tangled = 0;   // HTML nested so deeply that reading it would not end
  int64_t dropped_empty = 0;     // no text, or less than the config's minimum
  int64_t dropped_not_json = 0;  // lines of JSONL, where the config says SKIP: no JSON,
  int64_t dropped_no_text = 0;   // no object with a text in the wanted field,
  int64_t dropped_long = 0;      // or above the limit
  int64_t repaired = 0;          // documents with damage that became U+FFFD
  // Documents, repaired or dropped, by what was damaged; one may have several.
  int64_t not_utf8 = 0;       // bytes that are not UTF-8
  int64_t bad_escapes = 0;    // half a surrogate pair (JSON's \ud83d), HTML's references to no character
  int64_t nul = 0;            // NUL characters
  std::string first_skipped;  // why the first line that was left out was, with its place

  SourceCounts& operator+=(const SourceCounts& other);
  bool operator==(const SourceCounts&) const = default;
};

using DocumentSink = std::function<void(Document&&)>;

// A fixed list of parts (files, say), each a stream of documents. Order of parts and of documents within a
// part never depends on time, threads or the file system's own order.
class Source {
 public:
  virtual ~Source() = default;

  virtual size_t parts() const = 0;
  // Hands part `part`'s documents to `sink` in order. Callable from several threads at once, for different
  // parts. UserError names the file (and line) that cannot be read.
  virtual SourceCounts read(size_t part, const DocumentSink& sink) const = 0;
  // What was skipped while the parts were listed.
  virtual SourceCounts listed() const { return {}; }
  // Changes when the input does (names, sizes, times), so that prepared data is made again.
  virtual std::string identity() const = 0;
};

}  // namespace toroid
