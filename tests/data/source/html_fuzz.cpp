// Any bytes as an HTML page: no crash, no endless walk, and clean UTF-8 out of clean UTF-8.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base/utf8.h"
#include "data/filter/blank_space.h"
#include "data/filter/damage.h"
#include "data/filter/line_ends.h"
#include "data/filter/terminal_escapes.h"
#include "data/source/html.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string html(reinterpret_cast<const char*>(data), size);
  toroid::repair_utf8(html);
  toroid::HtmlOptions options;
  options.drop = {"menu"};
  std::optional<std::string> text = toroid::html_text(html, options);
  if (!text) return 0;
  toroid::repair_utf8(*text);
  toroid::unix_line_ends(*text);
  toroid::strip_terminal_escapes(*text);
  toroid::tidy_blank_space(*text);
  if (!toroid::valid_utf8(*text) || text->find('\0') != std::string::npos) std::abort();
  return 0;
}
