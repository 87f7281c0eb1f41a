// Every code point comes back from its bytes; what RFC 3629 forbids does not.
#include "core/base/utf8.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

using namespace std::string_literals;

TEST(Utf8, EveryCodePointComesBack) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(code, text);
    const size_t length = text.size();
    const Character alone = decode_character(text);
    const Character first = decode_character(text + "\x80");
    ASSERT_TRUE(alone.code == code && alone.length == length) << static_cast<uint32_t>(code);
    ASSERT_TRUE(first.code == code && first.length == length) << static_cast<uint32_t>(code);
    ASSERT_TRUE(valid_utf8(text)) << static_cast<uint32_t>(code);
    ASSERT_EQ(decode_character(std::string_view(text).substr(0, length - 1)).length, 0u)
        << static_cast<uint32_t>(code);
    for (size_t i = 0; i < length; ++i) ASSERT_EQ(continues_character(text[i]), i > 0);
  }
}

TEST(Utf8, WhatIsNotWellFormedIsRefused) {
  for (const std::string& text :
       {"\x80"s, "\xC0\x80"s, "\xC1\xBF"s, "\xC2"s, "\xC2\x41"s, "\xE0\x9F\xBF"s, "\xED\xA0\x80"s,
        "\xED\xBF\xBF"s, "\xE2\x82"s, "\xF0\x8F\xBF\xBF"s, "\xF4\x90\x80\x80"s, "\xF5\x80\x80\x80"s,
        "\xF8\x88\x80\x80\x80"s, "\xFF"s}) {
    EXPECT_EQ(decode_character(text).length, 0u) << text.size();
    EXPECT_FALSE(valid_utf8("a" + text + "b"));
  }
  EXPECT_EQ(decode_character("").length, 0u);
  EXPECT_TRUE(valid_utf8(""));
}

}  // namespace
}  // namespace toroid
