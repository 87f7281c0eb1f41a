#include "data/filter/binary.h"

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "data/filter/filter.pb.h"
#include "data/filter/place.h"

namespace toroid {
namespace {

class Binary final : public Filter {
 public:
  explicit Binary(bool drop_wide_text) : drop_wide_text_(drop_wide_text) {}

  Verdict apply(Document& document) const override {
    // Before NUL is looked for, which every such text is full of.
    if (const std::string_view encoding = wide_encoding(document.text); !encoding.empty()) {
      if (drop_wide_text_) return {"UTF-16 or UTF-32"};
      throw UserError(place_of(document) + " " + is_wide_text(encoding) +
                      ", exclude it, or drop such files with invalid_utf8: DROP of its source, or "
                      "drop_wide_text of its filter");
    }
    if (looks_binary(document.text)) return {"NUL near the start"};
    return {};
  }

 private:
  bool drop_wide_text_;
};

}  // namespace

bool looks_binary(std::string_view bytes) {
  return bytes.substr(0, 8192).find('\0') != std::string_view::npos;
}

std::unique_ptr<Filter> make_binary_filter(const config::FilterConfig& config, const std::string&) {
  return std::make_unique<Binary>(config.binary().drop_wide_text());
}

}  // namespace toroid
