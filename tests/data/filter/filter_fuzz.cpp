// Any bytes as a document: what a chain of every built-in filter keeps is clean UTF-8, and the rules that
// count words end on bytes that nobody cleaned, too.
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "data/filter/filter.pb.h"
#include "data/filter/registry.h"

namespace {

toroid::FilterChain chain_of(std::initializer_list<void (*)(toroid::config::FilterConfig&)> filters) {
  toroid::FilterChain chain;
  for (const auto& choose : filters) {
    toroid::config::FilterConfig config;
    choose(config);
    chain.add(toroid::builtin_filters().make(config, "filter"));
  }
  return chain;
}

using Config = toroid::config::FilterConfig;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const toroid::FilterChain whole = chain_of({
      [](Config& c) { c.mutable_damage(); },
      [](Config& c) { c.mutable_line_ends(); },
      [](Config& c) { c.mutable_terminal_escapes(); },
      [](Config& c) { c.mutable_blank_space(); },
      [](Config& c) { c.mutable_length()->set_maximum_words(1000); },
      [](Config& c) { c.mutable_gopher_repetition()->set_top_2_gram(1); },
      [](Config& c) { c.mutable_gopher_quality()->set_minimum_words(0); },
  });
  static const toroid::FilterChain binary = chain_of({[](Config& c) { c.mutable_binary(); }});
  static const toroid::FilterChain raw = chain_of({
      [](Config& c) { c.mutable_length()->set_minimum_words(1); },
      [](Config& c) { c.mutable_gopher_repetition()->set_duplicate_lines(1); },
      [](Config& c) { c.mutable_gopher_quality(); },
  });
  const std::string text(reinterpret_cast<const char*>(data), size);
  toroid::FilterCounts counts;
  toroid::Document document{text, "id"};
  if (whole.apply(document, counts)) {
    if (!toroid::valid_utf8(document.text) || document.text.find('\0') != std::string::npos) std::abort();
  }
  document = {text, "id"};
  raw.apply(document, counts);
  document = {text, "id"};
  try {
    binary.apply(document, counts);
  } catch (const toroid::UserError&) {  // what UTF-16 is answered with
  }
  return 0;
}
