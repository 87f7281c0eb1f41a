// One line of JSONL: the string in one field of its object. (nlohmann-json, which reads JSON elsewhere here,
// refuses a whole line for half a surrogate pair or a number beyond a double in a field that nobody asked
// for, and so does simdjson where it checks such fields at all.)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace toroid {

struct JsonLine {
  enum class Fault : uint8_t { none, not_json, no_text };
  Fault fault = Fault::none;
  std::string why;   // where there is a fault: "it is not JSON: ..."
  bool cut = false;  // no JSON, since the line ends before its object does
  // Bytes that are not UTF-8 stand in it as they came, "\u0000" as NUL.
  std::string text;
  int64_t half_surrogates = 0;  // escapes of half a pair in the text, each of which became U+FFFD
};

// The string that `line`, one object of RFC 8259, has in `field`. Whatever else the object holds is checked
// for its grammar alone: numbers of any size, halves of surrogate pairs, any depth (a byte of memory for
// each level), bytes that are not UTF-8 inside strings, and the NaN, Infinity and -Infinity that Python
// writes.
JsonLine read_json_line(std::string_view line, const std::string& field);

}  // namespace toroid
