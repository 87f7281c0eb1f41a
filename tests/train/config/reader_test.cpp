#include "train/config/reader.h"

#include <gtest/gtest.h>

#include "tests/train/config/recipe_text.h"

namespace toroid::config {
namespace {

using test::recipe_text;
using test::refusal;

std::string refused(const std::string& text) {
  return refusal([&] { load_text(text, "r.textproto"); });
}

TEST(Reader, reads_a_recipe_and_knows_the_line_of_each_value) {
  const Resolved resolved = load_text(recipe_text(), "r.textproto");
  EXPECT_EQ(resolved.run.model().d_model(), 32);
  EXPECT_EQ(resolved.origins.at("model.d_model"), "r.textproto:1");
  EXPECT_EQ(resolved.origins.at("train.steps"), "r.textproto:4");
  EXPECT_EQ(resolved.origins.at("train.seed"), "default");
}

TEST(Reader, byte_order_mark_and_crlf_are_read) {
  std::string text = "\xef\xbb\xbf" + recipe_text();
  for (size_t i = text.find('\n'); i != std::string::npos; i = text.find('\n', i + 2))
    text.insert(i, 1, '\r');
  const Resolved resolved = load_text(text, "r.textproto");
  EXPECT_EQ(resolved.run.train().steps(), 8);
  EXPECT_EQ(resolved.origins.at("train.steps"), "r.textproto:4");
}

TEST(Reader, other_encodings_are_named) {
  std::string wide;  // least byte first
  for (const char c : recipe_text()) wide += c, wide += '\0';
  EXPECT_EQ(refused("\xff\xfe" + wide),
            "r.textproto is UTF-16 text, but UTF-8 is needed; convert it with iconv -f UTF-16 -t UTF-8");
  EXPECT_NE(refused(wide).find("is UTF-16LE text"), std::string::npos);
}

TEST(Reader, unknown_field_has_its_place_and_a_suggestion) {
  EXPECT_EQ(refused("model { d_modle: 3 }"),
            "r.textproto:1:16: ModelConfig has no field \"d_modle\"; did you mean \"d_model\"?");
  EXPECT_NE(refused("\nzzzzzz: 3").find("r.textproto:2:7: RunConfig has no field \"zzzzzz\"; it has device"),
            std::string::npos);
}

TEST(Reader, duplicates_and_second_arms_are_refused) {
  EXPECT_EQ(refused("train { seed: 1 seed: 2 }"), "r.textproto:1:21: \"seed\" is given twice");
  EXPECT_NE(refused("train { seed: 1 } train { steps: 2 }").find("\"train\" is given twice"),
            std::string::npos);
  EXPECT_NE(refused("optim { schedule { cosine { peak: 1 } linear { peak: 1 } } }")
                .find("\"linear\" is given beside \"cosine\"; choose one of them"),
            std::string::npos);
}

TEST(Reader, wrong_types_are_refused) {
  EXPECT_NE(refused("train { steps: many }").find("r.textproto:1:16: Expected integer, got: many"),
            std::string::npos);
  EXPECT_NE(refused("train { precision: BF17 }").find("precision cannot be \"BF17\"; did you mean \"BF16\"?"),
            std::string::npos);
  EXPECT_NE(refused("model { layers: 9223372036854775808 }").find("r.textproto:1:17: Integer out of range"),
            std::string::npos);
}

TEST(Reader, numbers_are_finite) {
  for (const char* value : {"nan", "inf", "-inf", "1e999"}) {
    EXPECT_NE(refused(std::string("optim { clip_norm: ") + value + " }")
                  .find("optim.clip_norm is not a finite number"),
              std::string::npos)
        << value;
  }
}

TEST(Reader, strings_are_text) {
  EXPECT_NE(refused("chip: \"a\\nb\"").find("chip holds a control character"), std::string::npos);
  EXPECT_NE(refused("chip: \"\\xff\"").find("chip is not valid UTF-8"), std::string::npos);
  EXPECT_NE(refused("chip: \"" + std::string(5000, 'x') + "\"").find("chip is longer than 4096 bytes"),
            std::string::npos);
}

TEST(Reader, depth_is_bounded_before_the_parser_recurses) {
  for (const char* open : {"model {", "[", "<", "a {", "data { source {"}) {
    std::string text;
    while (text.size() < 200'000) text += open;
    EXPECT_NE(refused(text).find("brackets are nested deeper than 32"), std::string::npos) << open;
  }
  // Brackets in strings and comments are text.
  EXPECT_EQ(refused(recipe_text() + "# " + std::string(100, '{') + "\n"), "");
}

TEST(Reader, size_is_bounded) {
  EXPECT_NE(refused(std::string((1 << 20) + 1, ' ')).find("a config has at most"), std::string::npos);
  EXPECT_NE(refused("mesh { torus: [1" +
                    [] {
                      std::string more;
                      for (int i = 0; i < 50'000; ++i) more += ",1";
                      return more;
                    }() +
                    "] }")
                .find("more than 20000 values"),
            std::string::npos);
}

}  // namespace
}  // namespace toroid::config
