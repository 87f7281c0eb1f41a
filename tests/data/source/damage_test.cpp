// Damage in text, whatever its form, and bad lines: repaired, dropped or refused as the config says, and
// counted.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "data/source/html.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/data/source/reading.h"

namespace toroid {
namespace {

using namespace std::string_literals;

const std::string kReplaced = "\xEF\xBF\xBD";
const std::string kNotUtf8 = "bytes that are not UTF-8", kNoCharacter = "escapes of no character",
                  kNul = "NUL characters", kRepaired = "repaired with U+FFFD";

// UTF-16, least byte first.
std::string wide(const std::string& ascii, bool mark) {
  std::string out = mark ? "\xFF\xFE" : "";
  for (const char c : ascii) out += c, out += '\0';
  return out;
}

std::string source(const std::string& format, const std::string& more = "") {
  return "name: 's' path: '.' format: " + format + " " + more;
}

class Damage : public testing::Test {
 protected:
  Read read(const std::string& more = "") const {
    return read_everything(source("JSONL", more), root_.path());
  }
  std::vector<std::string> texts(const Read& read) const {
    std::vector<std::string> all;
    for (const Document& document : read.documents) all.push_back(document.text);
    return all;
  }
  TemporaryDirectory root_;
};

// A form of damage: a line of JSONL with it in the text, what repair makes of that, and how it is counted.
struct Form {
  std::string line, repaired;
  std::string noted;
};

TEST_F(Damage, OnePolicyWhateverItsForm) {
  const std::vector<Form> forms = {
      {"{\"text\":\"caf\xE9\"}", "caf" + kReplaced, kNotUtf8},
      {R"({"text":"cut \ud83d here"})", "cut " + kReplaced + " here", kNoCharacter},
      {R"({"text":"\ude00\ud83d"})", kReplaced + kReplaced, kNoCharacter},
      {R"({"text":"a\u0000b"})", "a" + kReplaced + "b", kNul},
      {"{\"text\":\"a\0b\"}"s, "a" + kReplaced + "b", kNul},
  };
  for (const Form& form : forms) {
    write(root_ / "a.jsonl", "{\"text\":\"first\"}\n" + form.line + "\n");
    const Read repaired = read();
    EXPECT_EQ(texts(repaired), (std::vector<std::string>{"first", form.repaired}));
    EXPECT_EQ(repaired.noted(kRepaired), 1);
    EXPECT_EQ(repaired.noted(form.noted), 1) << form.line;
    EXPECT_EQ(repaired.filters.noted.size(), 2u) << form.line;
    const Read dropped = read("invalid_utf8: DROP");
    EXPECT_EQ(texts(dropped), std::vector<std::string>{"first"});
    EXPECT_EQ(dropped.dropped("damage"), 1);
    EXPECT_EQ(dropped.noted(kRepaired), 0);
    EXPECT_EQ(dropped.noted(form.noted), 1);
    const std::string why = failure(source("JSONL", "invalid_utf8: REFUSE"), root_.path());
    EXPECT_NE(why.find("line 2 of"), std::string::npos) << why;
    EXPECT_NE(why.find("damaged text"), std::string::npos) << why;
  }
}

TEST_F(Damage, FieldsThatAreNotReadAreNotLookedAt) {
  write(root_ / "a.jsonl",
        "{\"title\":\"cut \\ud83d\",\"text\":\"one\"}\n{\"score\":1e400,\"text\":\"two\"}\n"
        "{\"score\":NaN,\"text\":\"three\"}\n{\"title\":\"caf\xE9\",\"text\":\"four\"}\n");
  for (const char* policy : {"REPAIR", "DROP", "REFUSE"}) {
    const Read all = read("invalid_utf8: "s + policy);
    EXPECT_EQ(texts(all), (std::vector<std::string>{"one", "two", "three", "four"})) << policy;
    EXPECT_EQ(all.noted(kRepaired), 0);
  }
}

TEST_F(Damage, BadLinesAreRefusedOrSkippedAndCounted) {
  write(root_ / "a.jsonl",
        "{\"text\":\"one\"}\n{\"text\": \n{\"body\":\"b\"}\n[1]\n\n{\"text\":\"two\"}\n{\"text\":\"" +
            std::string(1'100'000, 'x') + "\"}\n{\"text\":\"three\"}");
  const std::string config = "maximum_megabytes: 1 jsonl { on_bad_line: SKIP }";
  const Read all = read(config);
  EXPECT_EQ(texts(all), (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(all.documents[2].id, "a.jsonl:8");
  EXPECT_EQ(all.counts.dropped_not_json, 1);
  EXPECT_EQ(all.counts.dropped_no_text, 2);
  EXPECT_EQ(all.counts.dropped_long, 1);
  EXPECT_NE(all.counts.first_skipped.find("line 2 of"), std::string::npos) << all.counts.first_skipped;
  EXPECT_NE(failure(source("JSONL"), root_.path()).find("line 2 of"), std::string::npos);
  // A line that never ends is passed over without being kept.
  std::filesystem::resize_file(root_ / "a.jsonl", 50'000'000);
  EXPECT_EQ(texts(read(config)), (std::vector<std::string>{"one", "two"}));
}

TEST_F(Damage, LinesEndAsTheyMay) {
  const std::string mark = "\xEF\xBB\xBF";
  write(root_ / "a.jsonl", mark + "{\"text\":\"one\"}\r\n\r\n \t\n" + mark + "{\"text\":\"two\"}\r\n" + mark +
                               "\n{\"text\":\"" + mark + "three\"}");
  EXPECT_EQ(texts(read()), (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(read().noted(kRepaired), 0);
}

TEST_F(Damage, FilesOfAnotherFormAreNamed) {
  const auto why = [&](const std::string& bytes) {
    write(root_ / "a.jsonl", bytes);
    // Not a matter of single lines.
    return failure(source("JSONL", "jsonl { on_bad_line: SKIP }"), root_.path()) + "|" +
           failure(source("JSONL"), root_.path());
  };
  for (const bool mark : {true, false}) {
    const std::string refused = why(wide("{\"text\": \"wide\"}\n{\"text\": \"wide\"}\n", mark));
    EXPECT_NE(refused.find("is UTF-16"), std::string::npos) << refused;
    EXPECT_NE(refused.find("iconv -f UTF-16"), std::string::npos) << refused;
    EXPECT_NE(refused.front(), '|');
  }
  EXPECT_NE(why("\x1F\x8B\x08\1\2\3").find("is gzip data"), std::string::npos);
  EXPECT_NE(why("[\n  {\"text\": \"a\"},\n  {\"text\": \"b\"}\n]\n").find("jq -c '.[]'"), std::string::npos);
  EXPECT_NE(why("[{\"text\": \"a\"}, {\"text\": \"b\"}]").find("jq -c '.[]'"), std::string::npos);
  EXPECT_NE(why("{\n  \"text\": \"a\"\n}\n").find("jq -c . "), std::string::npos);
}

TEST_F(Damage, WideTextFilesAreRefusedOrDropped) {
  for (const std::string& format : {"TEXT"s, "CODE"s, "HTML"s}) {
    const TemporaryDirectory root;
    const std::string ending = format == "TEXT" ? ".txt" : format == "CODE" ? ".py" : ".html";
    write(root / ("a" + ending), "fine");
    write(root / ("b" + ending), wide("wide text, as editors write it\n", true));
    const std::string why = failure(source(format), root.path());
    EXPECT_NE(why.find("b" + ending + "' is UTF-16 text"), std::string::npos) << why;
    const Read dropped = read_everything(source(format, "invalid_utf8: DROP"), root.path());
    EXPECT_EQ(dropped.documents.size(), 1u);
    EXPECT_EQ(dropped.dropped("binary"), 1);
    write(root / ("b" + ending), wide("wide text, as editors write it\n", false));
    EXPECT_NE(failure(source(format), root.path()).find("is UTF-16LE text"), std::string::npos);
  }
}

TEST_F(Damage, TextFilesFollowThePolicy) {
  write(root_ / "a.txt", std::string(9000, 'x') + '\0' + "\xE9");
  const Read repaired = read_everything(source("TEXT"), root_.path());
  EXPECT_EQ(repaired.noted(kRepaired), 1);
  EXPECT_EQ(repaired.noted(kNul), 1);
  EXPECT_EQ(repaired.noted(kNotUtf8), 1);
  EXPECT_NE(failure(source("TEXT", "invalid_utf8: REFUSE"), root_.path()).find("a.txt' holds damaged text"),
            std::string::npos);
}

TEST_F(Damage, HtmlReferencesToNoCharacterAreDamage) {
  std::string html = "a&#xD83D;b &#55357c &#0; &#x110000; &#99999999999; &#65;&#x1F600;&#; &#x; &#xDfFf";
  EXPECT_EQ(replace_bad_references(html), 6);
  EXPECT_EQ(html, "a" + kReplaced + "b " + kReplaced + "c " + kReplaced + " " + kReplaced + " " + kReplaced +
                      " &#65;&#x1F600;&#; &#x; " + kReplaced);
  write(root_ / "a.html", "<p>cut &#xD83D; here</p>");
  write(root_ / "b.html", "<p>whole &#x1F600;</p>");
  const Read repaired = read_everything(source("HTML"), root_.path());
  EXPECT_EQ(texts(repaired),
            (std::vector<std::string>{"cut " + kReplaced + " here\n", "whole \U0001F600\n"}));
  EXPECT_EQ(repaired.noted(kNoCharacter), 1);
  EXPECT_EQ(repaired.noted(kRepaired), 1);
  EXPECT_EQ(read_everything(source("HTML", "invalid_utf8: DROP"), root_.path()).documents.size(), 1u);
}

}  // namespace
}  // namespace toroid
