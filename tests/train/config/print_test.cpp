#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/train/config/recipe_text.h"
#include "train/config/load.h"

namespace toroid::config {
namespace {

using google::protobuf::util::MessageDifferencer;
using test::recipe_text;

TEST(Print, resolved_text_reads_back_to_the_same_config) {
  const std::vector<std::string> overrides = {"optim.clip_norm=0.1", "train.seed=18446744073709551615",
                                              "train.init_from=with \"quotes\" and \\"};
  const Resolved first = load_text(recipe_text(), "r.textproto", overrides);
  const std::string text = to_text(first);
  const Resolved second = load_text(text, "stored.textproto");
  EXPECT_TRUE(MessageDifferencer::Equals(first.run, second.run)) << text;
}

// Origins stand in a column; how many spaces that takes is of no interest here.
std::string single_spaced(std::string text) {
  const auto end = std::unique(text.begin(), text.end(), [](char a, char b) { return a == ' ' && b == ' '; });
  text.erase(end, text.end());
  return text;
}

TEST(Print, every_value_has_its_origin) {
  const std::vector<std::string> overrides = {"train.steps=9"};
  const std::string text = to_text(load_text(recipe_text(), "r.textproto", overrides));
  const std::string spaced = single_spaced(text);
  EXPECT_NE(spaced.find(" d_model: 32 # r.textproto:1\n"), std::string::npos) << text;
  EXPECT_NE(spaced.find(" steps: 9 # --set\n"), std::string::npos) << text;
  EXPECT_NE(text.find("# from train.steps\n"), std::string::npos);
  EXPECT_NE(text.find("# default\n"), std::string::npos);
  EXPECT_EQ(text.find("set by the program"), std::string::npos) << text;
}

TEST(Print, a_file_name_cannot_end_its_comment) {
  const std::string text = to_text(load_text(recipe_text(), "a\ntrain { steps: 3 }"));
  EXPECT_EQ(load_text(text, "again").run.train().steps(), 8);
}

}  // namespace
}  // namespace toroid::config
