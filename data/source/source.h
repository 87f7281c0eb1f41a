// A source of documents: files of text, code or HTML, lines of JSONL, or whatever a SourceRegistry entry
// reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "data/document.h"
#include "data/filter/chain.h"

namespace toroid {

// What a source met. Everything that is left out is counted; what its filters leave out, by them.
struct SourceCounts {
  int64_t files = 0;             // read
  int64_t file_bytes = 0;        // read, after decompression
  int64_t documents = 0;         // kept by the filters; counted by read_filtered()
  int64_t skipped_links = 0;     // symbolic links to folders, to nothing, or out of the source's folder
  int64_t skipped_special = 0;   // FIFOs, sockets, devices
  int64_t dropped_not_json = 0;  // lines of JSONL, where the config says SKIP: no JSON,
  int64_t dropped_no_text = 0;   // no object with a text in the wanted field,
  int64_t dropped_long = 0;      // or above the limit
  std::string first_skipped;     // why the first line that was left out was, with its place

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
  // What the documents must go through before anything else. Without: they are valid UTF-8 without NUL as
  // they come.
  virtual FilterChain cleaning() const { return {}; }
  // What was skipped while the parts were listed.
  virtual SourceCounts listed() const { return {}; }
  // Changes when the input does (names, sizes, times), so that prepared data is made again.
  virtual std::string identity() const = 0;
};

struct FilteredCounts {
  SourceCounts source;
  FilterCounts filters;
};

// One part's documents through `chain`, which begins with the source's cleaning(), to `sink`.
FilteredCounts read_filtered(const Source& source, size_t part, const FilterChain& chain,
                             const DocumentSink& sink);

}  // namespace toroid
