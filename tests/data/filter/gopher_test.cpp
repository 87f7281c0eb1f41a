// The rules of Gopher against datatrove's own counts and verdicts. gopher.jsonl beside this file has texts
// whose words are what stands between white space (make_gopher_cases.py wrote it). TOROID_CORPUS_GOLDEN_DIR
// may name a folder with more: documents.jsonl, their words as a tokenizer cut them (words.jsonl), and the
// counts (expected_filters.jsonl).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "data/filter/characters.h"
#include "data/filter/gopher_quality.h"
#include "data/filter/gopher_repetition.h"
#include "tests/data/filter/filtering.h"

namespace toroid {
namespace {

using Json = nlohmann::json;

const std::vector<std::string> kStopWords = {"the", "be", "to", "of", "and", "that", "have", "with"};

std::vector<Json> lines_of_json(const Path& path) {
  std::vector<Json> all;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) all.push_back(Json::parse(line));
  return all;
}

Json to_json(const Repeats& r) {
  return {r.all, r.repeated, r.repeated_characters};
}

// Each of `values` that is ours to count.
void expect_repetition(const Json& values, const std::string& text,
                       const std::vector<std::string_view>& words) {
  const RepetitionCounts counts = count_repetition(text, words);
  EXPECT_EQ(counts.characters, values["characters"].get<int64_t>());
  EXPECT_EQ(to_json(counts.paragraphs), values["paragraphs"]);
  EXPECT_EQ(to_json(counts.lines), values["lines"]);
  for (size_t i = 0; i < counts.top.size(); ++i) {
    EXPECT_EQ(counts.top[i], values["top"][i].is_null() ? 0 : values["top"][i].get<int64_t>()) << i;
  }
  EXPECT_EQ(Json(counts.duplicate), values["duplicate"]);
}

void expect_quality(const Json& values, const std::string& text, const std::vector<std::string_view>& words) {
  const QualityCounts c = count_quality(text, words, kStopWords);
  const Json found = {{"words", c.words},
                      {"plain_words", c.plain_words},
                      {"plain_characters", c.plain_characters},
                      {"hashes", c.hashes},
                      {"ellipses", c.ellipses},
                      {"lines", c.lines},
                      {"bullets", c.bullets},
                      {"ellipsis_ends", c.ellipsis_ends},
                      {"alphabetic", c.alphabetic},
                      {"stop_words", c.stop_words}};
  EXPECT_EQ(found, values);
}

TEST(Gopher, CountsAndVerdictsAreDatatroves) {
  const std::vector<Json> cases = lines_of_json("tests/data/filter/gopher.jsonl");
  EXPECT_GE(cases.size(), 25u);
  for (const Json& each : cases) {
    SCOPED_TRACE(each["name"].get<std::string>());
    const std::string text = each["text"];
    const std::vector<std::string_view> words = words_of(text);
    expect_repetition(each["gopher_repetition"]["values"], text, words);
    expect_quality(each["gopher_quality"]["values"], text, words);
    EXPECT_EQ(why_dropped("gopher_repetition {}", text),
              each["gopher_repetition"]["reason"].get<std::string>());
    EXPECT_EQ(why_dropped("gopher_quality {}", text), each["gopher_quality"]["reason"].get<std::string>());
  }
}

TEST(Gopher, CountsOfMoreDocumentsAreDatatroves) {
  const char* directory = std::getenv("TOROID_CORPUS_GOLDEN_DIR");
  if (directory == nullptr) GTEST_SKIP() << "TOROID_CORPUS_GOLDEN_DIR is not set";
  std::map<std::string, std::string> texts, words;
  for (const Json& each : lines_of_json(Path(directory) / "documents.jsonl"))
    texts[each["id"]] = each["text"];
  for (const Json& each : lines_of_json(Path(directory) / "words.jsonl")) {
    if (each.contains("words")) words[each["id"]] = each["words"];
  }
  int compared = 0;
  for (const Json& each : lines_of_json(Path(directory) / "expected_filters.jsonl")) {
    const std::string id = each["id"];
    if (words.count(id) == 0 || texts.at(id).empty()) continue;
    SCOPED_TRACE(id);
    const std::vector<std::string_view> cut = words_of(words.at(id));
    if (each["gopher_repetition"].contains("values")) {
      expect_repetition(each["gopher_repetition"]["values"], texts.at(id), cut);
      ++compared;
    }
    if (each["gopher_quality"].contains("values")) {
      expect_quality(each["gopher_quality"]["values"], texts.at(id), cut);
    }
  }
  EXPECT_GT(compared, 100);
}

// The verdict of one rule alone, and before it that of none.
std::string quality(const std::string& rule, const std::string& text) {
  config::FilterConfig config;
  const std::string none =
      "gopher_quality { minimum_words: 0 maximum_words: 0 minimum_mean_word: 0 maximum_mean_word: 0 "
      "maximum_hashes: 1000 maximum_ellipses: 1000 maximum_bullet_lines: 1 maximum_ellipsis_lines: 1 "
      "minimum_alphabetic: 0 minimum_stop_words: 0 }";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(none, &config));
  Document document{text, "id"};
  const std::string before = builtin_filters().make(config, "filter").filter->apply(document).drop;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString("gopher_quality { " + rule + " }", &config));
  return before + "|" + builtin_filters().make(config, "filter").filter->apply(document).drop;
}

TEST(Gopher, RulesMayBeLeftOutAndMoved) {
  const std::string pair = "the same pair of words, the same pair of words";
  EXPECT_EQ(why_dropped("gopher_repetition {}", pair), "top_2_gram");
  EXPECT_EQ(why_dropped("gopher_repetition { top_2_gram: 1 top_3_gram: 1 }", pair), "top_4_gram");
  EXPECT_EQ(why_dropped("gopher_quality {}", "1 2 3"), "minimum_words");
  EXPECT_EQ(quality("maximum_words: 2", "one two three"), "|maximum_words");
  EXPECT_EQ(quality("maximum_ellipsis_lines: 0.4", "one...\ntwo"), "|maximum_ellipsis_lines");
  EXPECT_EQ(quality("maximum_bullet_lines: 0.4", "- one\ntwo"), "|maximum_bullet_lines");
  EXPECT_EQ(quality("minimum_alphabetic: 0.5", "1 2 three"), "|minimum_alphabetic");
  EXPECT_EQ(quality("maximum_hashes: 0.2", "#one two three"), "|maximum_hashes");
  EXPECT_EQ(why_dropped("gopher_quality { minimum_words: 1 minimum_stop_words: 1 stop_word: 'und' }",
                        "Milch und Brot"),
            "");
  EXPECT_EQ(why_dropped("gopher_quality { minimum_words: 1 minimum_stop_words: 1 stop_word: 'und' }",
                        "milk and bread"),
            "minimum_stop_words");
}

TEST(Gopher, TextsOfNothingAreKept) {
  EXPECT_EQ(why_dropped("gopher_repetition {}", ""), "");
  EXPECT_EQ(why_dropped("gopher_quality { minimum_words: 0 }", ""), "");
  EXPECT_EQ(why_dropped("gopher_quality { minimum_words: 0 }", " \n"), "");
}

TEST(Gopher, ValuesOutOfBoundsAreRefused) {
  for (const char* bad : {"-0.1", "1.1", "nan"}) {
    EXPECT_NE(why_not("gopher_repetition { duplicate_lines: " + std::string(bad) + " }")
                  .find("filter.gopher_repetition.duplicate_lines"),
              std::string::npos);
    EXPECT_NE(why_not("gopher_quality { minimum_alphabetic: " + std::string(bad) + " }")
                  .find("filter.gopher_quality.minimum_alphabetic"),
              std::string::npos);
  }
  EXPECT_NE(why_not("gopher_quality { minimum_stop_words: 9 }").find("minimum_stop_words"),
            std::string::npos);
  EXPECT_EQ(why_not("gopher_quality { stop_word: 'two words' }"),
            "filter.gopher_quality.stop_word is 'two words', but each is one word without blanks");
  EXPECT_NE(why_not("gopher_quality { maximum_words: 9 }").find("below minimum_words, which is 50"),
            std::string::npos);
}

}  // namespace
}  // namespace toroid
