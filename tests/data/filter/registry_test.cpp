// Filters by the name of the config's arm.
#include "data/filter/registry.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "tests/data/filter/filtering.h"

namespace toroid {
namespace {

TEST(FilterRegistry, EveryArmHasItsLine) {
  const FilterRegistry registry = builtin_filters();
  const auto* kind = config::FilterConfig::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kind->field_count(); ++i) {
    const std::string& arm = kind->field(i)->name();
    EXPECT_NE(registry.has(arm), arm == "custom") << arm;
  }
  // And every field is an arm.
  EXPECT_EQ(kind->field_count(), config::FilterConfig::descriptor()->field_count());
}

TEST(FilterRegistry, WhatHasNoLineIsAnErrorThatSaysSo) {
  FilterRegistry one;
  one.add("mine", [](const config::FilterConfig&, const std::string&) { return nullptr; });
  EXPECT_EQ(why_not("blank_space {}", one),
            "filter is blank_space, which no filter is registered as (registered: mine)");
  EXPECT_EQ(
      why_not("custom { name: 'mime' }", one),
      "filter.custom.name is 'mime', which no filter is registered as; did you mean \"mine\"? (registered: "
      "mine)");
  EXPECT_EQ(why_not("", one),
            "filter is empty; say which filter it is, such as filter { length { minimum_bytes: 200 } }");
  EXPECT_EQ(why_not("custom { name: 'length' }"),
            "filter.custom.name is 'length', which is built in: write filter { length { ... } }");
  EXPECT_THROW(one.add("mine", nullptr), InternalError);
}

}  // namespace
}  // namespace toroid
