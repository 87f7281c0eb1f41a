// A document on its way from a source through its filters to the tokenizer.
#pragma once

#include <cstdint>
#include <string>

namespace toroid {

struct Document {
  // As the source has it, and then as each filter leaves it: after the last, valid UTF-8 without NUL.
  std::string text;
  // Where it comes from: path below the source, with ":line" for JSONL.
  std::string id;
  // The same for a person who must find it: "line 3 of 'corpus/a.jsonl'". Empty: `id` must do.
  std::string place = {};
  // Escapes in the source's own notation that stood for no character and became U+FFFD: half a surrogate
  // pair in JSON, HTML's references to no character. The damage filter takes them into account.
  int64_t bad_escapes = 0;
};

}  // namespace toroid
