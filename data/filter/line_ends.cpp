#include "data/filter/line_ends.h"

namespace toroid {
namespace {

class LineEnds final : public Filter {
 public:
  Verdict apply(Document& document) const override {
    unix_line_ends(document.text);
    return {};
  }
};

}  // namespace

void unix_line_ends(std::string& text) {
  if (text.find('\r') == std::string::npos) return;
  size_t to = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      text[to++] = text[i];
    } else if (i + 1 >= text.size() || text[i + 1] != '\n') {
      text[to++] = '\n';
    }
  }
  text.resize(to);
}

std::unique_ptr<Filter> make_line_ends_filter(const config::FilterConfig&, const std::string&) {
  return std::make_unique<LineEnds>();
}

}  // namespace toroid
