// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace toroid {

struct Character {
  char32_t code = 0;
  size_t length = 0;  // bytes
};

// The character that `text` begins with; its length is 0 where there is none or its bytes are not well
// formed.
Character decode_character(std::string_view text);

bool valid_utf8(std::string_view text);

// `code` is a code point and no surrogate.
void append_utf8(char32_t code, std::string& out);

// Whether the byte goes on with a character that another byte began.
inline bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u;
}

}  // namespace toroid
