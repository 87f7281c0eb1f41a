#include "core/base/io/json.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace toroid {
namespace {

std::string refusal(const std::string& text, const JsonLimits& limits = {}) {
  try {
    JsonDocument::parse(text, "m.json", limits);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

template <typename Access>
std::string access_error(const std::string& text, Access access) {
  const JsonDocument document = JsonDocument::parse(text, "m.json");
  try {
    access(document.root());
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Json, ReadsValues) {
  const JsonDocument document = JsonDocument::parse(
      R"({"a":{"b":[1,-2,9223372036854775807]},"s":"\u00e9\n","d":1e-6,"t":true,"n":null})", "m.json");
  const JsonView root = document.root();
  EXPECT_EQ(root.at("a").at("b").as_integers(-2, INT64_MAX), (std::vector<int64_t>{1, -2, INT64_MAX}));
  EXPECT_EQ(root.at("s").as_string(), "\xc3\xa9\n");
  EXPECT_EQ(root.at("d").as_number(), 1e-6);
  EXPECT_TRUE(root.at("t").as_bool());
  EXPECT_FALSE(root.find("n").has_value());
  EXPECT_FALSE(root.find("absent").has_value());
  EXPECT_EQ(root.keys(), (std::vector<std::string>{"a", "d", "n", "s", "t"}));
}

TEST(Json, NestedContainersKeepTheirPlace) {
  const JsonDocument document = JsonDocument::parse(R"([[1,[2]],{"a":[{"b":3}],"c":4},5])", "m.json");
  EXPECT_EQ(document.root().at(0).at(1).at(size_t{0}).as_integer(), 2);
  EXPECT_EQ(document.root().at(1).at("a").at(size_t{0}).at("b").as_integer(), 3);
  EXPECT_EQ(document.root().at(1).at("c").as_integer(), 4);
  EXPECT_EQ(document.root().at(2).as_integer(), 5);
}

TEST(Json, RefusesHostileText) {
  EXPECT_NE(refusal(std::string(100'000, '[')).find("nests deeper"), std::string::npos);
  EXPECT_NE(refusal(std::string(100'000, '{')).find("nests deeper"), std::string::npos);
  EXPECT_NE(refusal(R"({"a":1,"a":2})").find("'a' twice"), std::string::npos);
  EXPECT_NE(refusal("{\"a\":\"\xff\"}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("{} {}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal(std::string("{}\0", 3)).find("zero byte"), std::string::npos);
  EXPECT_NE(refusal("").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[1e400]").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[" + std::string(500, '9') + "]").find("more than 400"), std::string::npos);
  EXPECT_NE(refusal("[1,2,3,4]", {.values = 3}).find("more than 3 values"), std::string::npos);
  EXPECT_NE(refusal("[\"12345\"]", {.string_bytes = 4}).find("string of more"), std::string::npos);
  EXPECT_NE(refusal("[1,      2]", {.string_bytes = 4}).find("blanks in a row"), std::string::npos);
  EXPECT_NE(refusal("[1,2]", {.bytes = 3}).find("at most 3"), std::string::npos);
  EXPECT_NE(refusal("\"\\").find("not valid JSON"), std::string::npos);
}

TEST(Json, ErrorsNameFileAndPlace) {
  const std::string text = R"({"layers":[{"n":"x"}],"f":1.5,"big":9223372036854775808})";
  EXPECT_EQ(access_error(text, [](JsonView v) { v.at("layers").at(size_t{0}).at("n").as_integer(); }),
            "'m.json': 'layers[0].n' is a string, but an integer is needed");
  EXPECT_EQ(access_error(text, [](JsonView v) { v.at("layer"); }),
            "'m.json': the top level has no key 'layer' (it has 'layers')");
  EXPECT_EQ(access_error(text, [](JsonView v) { v.at("f").as_integer(); }),
            "'m.json': 'f' is a number with a fraction or exponent, but an integer is needed");
  EXPECT_EQ(access_error(text, [](JsonView v) { v.at("big").as_integer(0, 5); }),
            "'m.json': 'big' is 9223372036854775808, but must lie between 0 and 5");
}

}  // namespace
}  // namespace toroid
