// The filters that text of any format goes through first.
#include <gtest/gtest.h>

#include <string>

#include "data/filter/binary.h"
#include "data/filter/blank_space.h"
#include "data/filter/damage.h"
#include "data/filter/line_ends.h"
#include "data/filter/terminal_escapes.h"
#include "tests/data/filter/filtering.h"

namespace toroid {
namespace {

using namespace std::string_literals;

TEST(Cleaning, BytesThatAreNotUtf8AreReplacedOneByOne) {
  std::string text =
      "a\xFF"
      "b\xC3\x28\xE2\x82 \xED\xA0\x80\xF4\x90\x80\x80" +
      std::string(1, '\0') + "\xC3\xA9";
  EXPECT_EQ(repair_utf8(text), 1u + 1 + 2 + 3 + 4 + 1);
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(text, "a" + r + "b" + r + "(" + r + r + " " + r + r + r + r + r + r + r + r + "\xC3\xA9");
  std::string marked = "\xEF\xBB\xBFtext";
  EXPECT_EQ(repair_utf8(marked), 0u);
  EXPECT_EQ(marked, "text");
}

TEST(Cleaning, TerminalEscapesAndOverstrikesGo) {
  std::string text =
      "\x1B[1mbold\x1B[0m \x1B[33X\x1B[1;0Ygap\x1B[133X N\bNA\bA _\bu \x1B]0;title\a\x1B(Bend\r\x1B[3";
  strip_terminal_escapes(text);
  EXPECT_EQ(text, "bold gap NA u end");
  std::string line_start = "\b\bx\n\by";
  strip_terminal_escapes(line_start);
  EXPECT_EQ(line_start, "x\ny");
}

TEST(Cleaning, BlankSpaceIsTidied) {
  std::string text = "\n \n a  \n\n\n\t\nb\t\n\n";
  tidy_blank_space(text);
  EXPECT_EQ(text, " a\n\nb\n");
  std::string nothing = " \n\n ";
  tidy_blank_space(nothing);
  EXPECT_EQ(nothing, "");
  std::string lines = "a\r\nb\rc\n";
  unix_line_ends(lines);
  EXPECT_EQ(lines, "a\nb\nc\n");
}

TEST(Cleaning, EachStepIsAFilterThatAConfigCanName) {
  EXPECT_EQ(filtered("line_ends {}", "a\r\nb\rc"), "a\nb\nc");
  EXPECT_EQ(filtered("terminal_escapes {}", "\x1B[1mbold\x1B[0m"), "bold");
  EXPECT_EQ(filtered("blank_space {}", "a  \n\n\n\nb\n\n"), "a\n\nb\n");
  EXPECT_EQ(filtered("damage {}", "caf\xE9"), "caf\xEF\xBF\xBD");
  EXPECT_EQ(why_dropped("damage {}", "caf\xE9"), "");
  EXPECT_EQ(why_dropped("damage { policy: DROP }", "caf\xE9"), "damaged text");
  EXPECT_EQ(why_dropped("binary {}", "a\0b"s), "NUL near the start");
  EXPECT_EQ(why_dropped("binary {}", std::string(9000, 'x') + '\0'), "");
}

TEST(Cleaning, WideTextIsRefusedOrDropped) {
  std::string wide = "\xFF\xFE";
  for (const char c : "wide text, as editors write it\n"s) wide += c, wide += '\0';
  EXPECT_EQ(why_dropped("binary { drop_wide_text: true }", wide), "UTF-16 or UTF-32");
  try {
    why_dropped("binary {}", wide);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find("document 'id' is UTF-16 text"), 0u) << error.what();
  }
}

TEST(Cleaning, RefusedDamageNamesThePlaceAndAllThatWasFound) {
  Document document{"caf\xE9\0"s, "id", "line 3 of 'a.jsonl'", 2};
  try {
    make_filter("damage { policy: REFUSE }").filter->apply(document);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what())
                  .find("line 3 of 'a.jsonl' holds damaged text (1 bytes that are not UTF-8, 2 "
                        "escapes of no character, 1 NUL characters); mend it"),
              0u)
        << error.what();
  }
}

}  // namespace
}  // namespace toroid
