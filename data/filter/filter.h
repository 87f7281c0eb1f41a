// A filter looks at one document at a time: it keeps or drops it, with a reason that is counted, and may
// change its text. docs/corpus.md says which there are; FilterRegistry holds them by name.
#pragma once

#include <string>
#include <vector>

#include "data/document.h"

namespace toroid {

// What a filter makes of a document. Its words are keys of counts: a few fixed ones, never parts of a
// document.
struct Verdict {
  // Why the document is dropped; empty where it is kept.
  std::string drop = {};
  // What else is counted of it, kept or not: "repaired with U+FFFD".
  std::vector<std::string> notes = {};
};

class Filter {
 public:
  virtual ~Filter() = default;

  // Callable from several threads at once, and a function of the document alone. UserError, with the
  // document's place, where the config refuses such documents.
  virtual Verdict apply(Document& document) const = 0;
  // Of a filter that reads more than its config, such as a file of words: changes when that does, so that
  // prepared data is made again.
  virtual std::string identity() const { return {}; }
};

}  // namespace toroid
