// Lines of JSONL: the text that is read, what may stand in the fields that are not, and what is no JSON.
#include "data/source/json_line.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace toroid {
namespace {

using Fault = JsonLine::Fault;

const std::string kReplaced = "\xEF\xBF\xBD";

JsonLine read(const std::string& line) {
  return read_json_line(line, "text");
}

TEST(JsonLine, EscapesBecomeCharacters) {
  const JsonLine line = read(R"({"text": "\"\\\/\b\f\n\r\t \u0041\u00e9\u20AC\uD83D\uDE00 \ufffd"})");
  EXPECT_EQ(line.fault, Fault::none) << line.why;
  EXPECT_EQ(line.text, "\"\\/\b\f\n\r\t A\u00e9\u20AC\U0001F600 \ufffd");
  EXPECT_EQ(line.half_surrogates, 0);
  EXPECT_EQ(read(R"({"text": "a\u0000b"})").text, std::string("a\0b", 3));
  EXPECT_EQ(read(R"({"\u0074e\u0078t": "escaped name"})").text, "escaped name");
}

TEST(JsonLine, HalvesOfSurrogatePairsAreReplacedAndCounted) {
  const auto expect = [](const std::string& escaped, const std::string& text, int64_t halves) {
    const JsonLine line = read("{\"text\": \"" + escaped + "\"}");
    EXPECT_EQ(line.fault, Fault::none) << line.why;
    EXPECT_EQ(line.text, text) << escaped;
    EXPECT_EQ(line.half_surrogates, halves) << escaped;
  };
  expect(R"(cut \ud83d here)", "cut " + kReplaced + " here", 1);
  expect(R"(\ude00)", kReplaced, 1);
  expect(R"(\ud83d)", kReplaced, 1);
  expect(R"(\ude00\ud83d)", kReplaced + kReplaced, 2);
  expect(R"(\ud83d\u0041)", kReplaced + "A", 1);
  expect(R"(\ud83d\ud83d\ude00\ude00)", kReplaced + "\U0001F600" + kReplaced, 2);
  expect(R"(\ud83d\n)", kReplaced + "\n", 1);
  expect(R"(\ud83du0041)", kReplaced + "u0041", 1);
}

TEST(JsonLine, FieldsThatAreNotReadMayHoldAnyJson) {
  const std::vector<std::string> values = {
      "1e400",
      "-1e-400",
      "-0.0E+12",
      "123456789012345678901234567890123456789012345678901234567890",
      "[[1e400], {\"a\": [-1E999, 0]}]",
      R"("half \ud83d")",
      R"({"\udc00": "\udc00\ud800", "text": "nested", "b": [{"text": 1}, "text"]})",
      R"(["\ud800", {"a": "\ud800\u0041"}])",
      "null",
      "true",
      "[]",
      "{}",
      "[ ]",
      "{ \t}",
      "\"\"",
      "\"caf\xE9 \xED\xA0\x80\"",
      "NaN",
      "Infinity",
      "-Infinity",
      "[NaN, -Infinity, {\"a\": Infinity}]",
      std::string(100'000, '[') + std::string(100'000, ']'),
      "\"\\u0000\"",
  };
  for (const std::string& value : values) {
    for (const std::string& line :
         {"{\"a\": " + value + ", \"text\": \"fine\"}", " {\"text\":\"fine\"\t,\"a\":" + value + " } "}) {
      const JsonLine found = read(line);
      EXPECT_EQ(found.fault, Fault::none) << line.substr(0, 200) << ": " << found.why;
      EXPECT_EQ(found.text, "fine");
      EXPECT_EQ(found.half_surrogates, 0);
    }
  }
  EXPECT_EQ(read(R"({"\ud800": 1, "text": "fine"})").text, "fine");
}

TEST(JsonLine, WhatIsNoJsonIsNamedWithItsPlace) {
  const std::vector<std::string> values = {
      "01",        "1.",     "-",         ".5",   "+1",         "1e",   "1e+",      "0x10",        "nan",
      "-NaN",      "inf",    "+Infinity", "tru",  "nulll",      "True", "'single'", "[1,]",        "{\"a\":}",
      "{\"a\" 1}", "{a: 1}", "[1 2]",     "[1}",  "{\"a\": 1]", "{,}",  "\"\\x\"",  "\"\\u12g4\"", "\"\n\"",
      "\"\t\"",    "[",      "\"open",    "\"\\", "1 // no",    "",     "\xE9",     "undefined"};
  for (const std::string& value : values) {
    const JsonLine line = read("{\"text\": \"fine\", \"a\": " + value + "}");
    EXPECT_EQ(line.fault, Fault::not_json) << value;
    EXPECT_NE(line.why.find("it is not JSON at its byte "), std::string::npos) << line.why;
  }
  for (const std::string whole :
       {R"({"text": "a"} {"text": "b"})", R"({"text": "a"},)", R"({"text": "a",})", R"({"text": "a")",
        R"({"text")", R"({"text": )", "{", "}", "text", R"({"text": "a"}])", "\xEF\xBB\xBF{}"}) {
    EXPECT_EQ(read(whole).fault, Fault::not_json) << whole;
  }
  EXPECT_EQ(read(R"({"text": "a", "b": 1.})").why, "it is not JSON at its byte 22: a number is incomplete");
  EXPECT_EQ(read(R"({"text": "a)").why,
            "it is not JSON at its byte 12: the line ends before its object does");
}

TEST(JsonLine, AnObjectWithoutAStringInTheFieldHasNoText) {
  const auto why = [](const std::string& text) {
    const JsonLine line = read(text);
    EXPECT_EQ(line.fault, Fault::no_text) << text;
    return line.why;
  };
  EXPECT_EQ(why("{}"), "it has no 'text'");
  EXPECT_EQ(why(R"({"body": {"text": "deeper"}})"), "it has no 'text'");
  EXPECT_EQ(why(R"({"text": null})"), "its 'text' is null, not a string");
  EXPECT_EQ(why(R"({"text": NaN})"), "its 'text' is a number, not a string");
  EXPECT_EQ(why(R"({"text": ["a"]})"), "its 'text' is an array, not a string");
  EXPECT_EQ(why(R"({"text": "a", "text": "b"})"), "it has 'text' twice");
  EXPECT_EQ(why(R"(["a"])"), "it is an array, not an object");
  EXPECT_EQ(why("\"a\""), "it is a string, not an object");
  EXPECT_EQ(why("1"), "it is a number, not an object");
}

// Whatever nlohmann-json reads is read alike, and what it refuses is refused, but for what this reader is
// for.
TEST(JsonLine, EqualsTheLibraryOnSmallChangesOfALine) {
  const std::string seed =
      R"({"a": [1.5e3, {"b": "\u00e9\ud83d\ude00"}, true, null], "text": "x\n\u0041\ud83d\ude00", "c": -0})";
  int read_by_both = 0, refused_by_both = 0;
  uint64_t state = 1;
  const auto random = [&](size_t below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<size_t>(state >> 33) % below;
  };
  const std::string alphabet = "{}[]\",:\\u0123456789abcdefntr.eE+- xd8";
  for (int i = 0; i < 60'000; ++i) {
    std::string line = seed;
    for (size_t changes = 1 + random(3); changes > 0; --changes) {
      const size_t at = random(line.size());
      const size_t kind = random(3);
      if (kind == 0) line[at] = alphabet[random(alphabet.size())];
      if (kind == 1) line.erase(at, 1);
      if (kind == 2) line.insert(at, 1, alphabet[random(alphabet.size())]);
    }
    const JsonLine found = read(line);
    nlohmann::json parsed;
    try {
      parsed = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      const bool overflow = error.id == 406;
      const bool half = std::string(error.what()).find("surrogate") != std::string::npos;
      EXPECT_TRUE(overflow || half || found.fault != Fault::none) << line << ": " << error.what();
      if (found.fault != Fault::none) ++refused_by_both;
      continue;
    }
    EXPECT_NE(found.fault, Fault::not_json) << line << ": " << found.why;
    if (found.fault != Fault::none) continue;
    EXPECT_EQ(found.text, parsed.at("text").get<std::string>()) << line;
    ++read_by_both;
  }
  EXPECT_GT(read_by_both, 1000);
  EXPECT_GT(refused_by_both, 1000);
}

}  // namespace
}  // namespace toroid
