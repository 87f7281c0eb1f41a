// Text in another encoding is named, and nothing else is.
#include "core/base/encoding.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "core/base/io/json.h"

namespace toroid {
namespace {

using namespace std::string_literals;

// Code points as units of `width` bytes.
std::string units(const std::u32string& text, size_t width, bool big_endian) {
  std::string out;
  const auto unit = [&](uint32_t c) {
    for (size_t b = 0; b < width; ++b) {
      out += static_cast<char>(c >> 8 * (big_endian ? width - 1 - b : b) & 0xFF);
    }
  };
  for (const char32_t c : text) {
    if (width == 2 && c >= 0x10000) {
      unit(0xD800 + ((c - 0x10000) >> 10)), unit(0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      unit(c);
    }
  }
  return out;
}

TEST(Encoding, AByteOrderMarkNamesIt) {
  EXPECT_EQ(wide_encoding(units(U"\uFEFFtext", 2, false)), "UTF-16");
  EXPECT_EQ(wide_encoding(units(U"\uFEFFtext", 2, true)), "UTF-16");
  EXPECT_EQ(wide_encoding(units(U"\uFEFF生活", 2, false)), "UTF-16");
  EXPECT_EQ(wide_encoding("\xFF\xFE"), "UTF-16");
  EXPECT_EQ(wide_encoding(units(U"\uFEFFtext", 4, false)), "UTF-32");
  EXPECT_EQ(wide_encoding(units(U"\uFEFFtext", 4, true)), "UTF-32");
}

TEST(Encoding, TextWithoutAMarkIsKnownByItsUnits) {
  for (const std::u32string& text :
       {U"{\"text\": \"生活的真谛是 😀\"}\n"s, U"ab"s, U"caf\u00E9\r\n\r\nand so on"s,
        U"largo — \U0001F600 allegro, ma non troppo"s}) {
    EXPECT_EQ(wide_encoding(units(text, 2, false)), "UTF-16LE");
    EXPECT_EQ(wide_encoding(units(text, 2, true)), "UTF-16BE");
    EXPECT_EQ(wide_encoding(units(text, 4, false)), "UTF-32LE");
    EXPECT_EQ(wide_encoding(units(text, 4, true)), "UTF-32BE");
  }
  std::u32string many;
  for (int i = 0; i < 10'000; ++i) many += U"many words ";
  EXPECT_EQ(wide_encoding(units(many, 2, false)), "UTF-16LE");  // though only its beginning is looked at
}

TEST(Encoding, Utf8AndBinaryFilesAreNotText) {
  EXPECT_EQ(wide_encoding(""), "");
  EXPECT_EQ(wide_encoding("plain text"), "");
  EXPECT_EQ(wide_encoding("\xEF\xBB\xBFmarked"), "");
  EXPECT_EQ(wide_encoding("caf\xE9"), "");
  EXPECT_EQ(wide_encoding("a\0"s), "");
  EXPECT_EQ(wide_encoding("bin\0ary"s), "");
  EXPECT_EQ(wide_encoding(std::string(4096, '\0')), "");
  EXPECT_EQ(wide_encoding("\x7F"
                          "ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0>\0\1\0\0\0"s),
            "");
  std::string names;  // as find -print0 writes them
  for (int i = 0; i < 50; ++i) names += "directory/file" + std::to_string(i) + '\0';
  EXPECT_EQ(wide_encoding(names), "");
  std::string numbers;  // 16 bits each, small
  for (int i = 0; i < 500; ++i) numbers += static_cast<char>(i * 7 % 127), numbers += '\0';
  EXPECT_EQ(wide_encoding(numbers), "");
}

TEST(Encoding, JsonSaysSo) {
  const auto why = [](const std::string& text) {
    try {
      JsonDocument::parse(text, "config.json");
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(why(units(U"\uFEFF{\"a\": 1}", 2, false)).find("is UTF-16 text"), std::string::npos);
  EXPECT_NE(why(units(U"{\"a\": 1}", 2, true)).find("iconv -f UTF-16BE -t UTF-8"), std::string::npos);
  EXPECT_EQ(why("\xEF\xBB\xBF{\"a\": 1}"), "");
  // A limit is called one.
  const std::string deep = why(std::string(100, '[') + std::string(100, ']'));
  EXPECT_NE(deep.find("nests deeper than 32 levels"), std::string::npos) << deep;
  EXPECT_NE(deep.find("more than this reader"), std::string::npos) << deep;
}

TEST(Encoding, CompressedFormatsAreNamed) {
  EXPECT_EQ(compressed_format("\x1F\x8B\x08"), "gzip");
  EXPECT_EQ(compressed_format("\x28\xB5\x2F\xFD\x24"), "zstd");
  EXPECT_EQ(compressed_format("\xFD\x37\x7A\x58\x5A\0\0"s), "xz");
  EXPECT_EQ(compressed_format("BZh91AY"), "bzip2");
  EXPECT_EQ(compressed_format("text"), "");
}

}  // namespace
}  // namespace toroid
