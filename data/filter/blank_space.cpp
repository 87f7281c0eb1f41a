#include "data/filter/blank_space.h"

#include <algorithm>
#include <utility>

namespace toroid {
namespace {

class BlankSpace final : public Filter {
 public:
  Verdict apply(Document& document) const override {
    tidy_blank_space(document.text);
    return {};
  }
};

}  // namespace

void tidy_blank_space(std::string& text) {
  std::string out;
  out.reserve(text.size());
  size_t newlines = 2;  // as if a blank line came before: none is kept at the start
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    size_t last = end;
    while (last > begin && (text[last - 1] == ' ' || text[last - 1] == '\t' || text[last - 1] == '\f'))
      --last;
    if (last > begin) {
      out.append(text, begin, last - begin);
      newlines = 0;
    }
    if (newlines < 2) out += '\n', ++newlines;
    begin = end + 1;
  }
  while (out.ends_with("\n\n")) out.pop_back();
  if (out == "\n") out.clear();
  text = std::move(out);
}

std::unique_ptr<Filter> make_blank_space_filter(const config::FilterConfig&, const std::string&) {
  return std::make_unique<BlankSpace>();
}

}  // namespace toroid
