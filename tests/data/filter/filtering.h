// Filters as tests use them.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "data/filter/filter.pb.h"
#include "data/filter/registry.h"

namespace toroid {

inline NamedFilter make_filter(const std::string& text, const FilterRegistry& registry = builtin_filters()) {
  config::FilterConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return registry.make(config, "filter");
}

// Why `text` is dropped; "" where it is kept.
inline std::string why_dropped(const std::string& filter, const std::string& text) {
  Document document{text, "id"};
  return make_filter(filter).filter->apply(document).drop;
}

// What the text becomes.
inline std::string filtered(const std::string& filter, const std::string& text) {
  Document document{text, "id"};
  make_filter(filter).filter->apply(document);
  return document.text;
}

// The UserError of making it, or "".
inline std::string why_not(const std::string& filter, const FilterRegistry& registry = builtin_filters()) {
  try {
    make_filter(filter, registry);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

}  // namespace toroid
