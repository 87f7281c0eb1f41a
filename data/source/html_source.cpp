#include "data/source/html_source.h"

#include <optional>
#include <string>
#include <utility>

#include "data/data.pb.h"
#include "data/filter/damage.h"
#include "data/filter/line_ends.h"
#include "data/source/cleaning.h"
#include "data/source/file_source.h"
#include "data/source/html.h"

namespace toroid {
namespace {

// Before the damage filter, which takes the references that stand for nothing into account.
class BadReferences final : public Filter {
 public:
  Verdict apply(Document& document) const override {
    document.bad_escapes += replace_bad_references(document.text);
    return {};
  }
};

class HtmlText final : public Filter {
 public:
  explicit HtmlText(HtmlOptions options) : options_(std::move(options)) {}

  Verdict apply(Document& document) const override {
    std::optional<std::string> text = html_text(document.text, options_);
    if (!text) return {"nested too deeply to be read"};
    document.text = *std::move(text);
    repair_utf8(document.text);  // what else a reference can spell
    unix_line_ends(document.text);
    return {};
  }

 private:
  HtmlOptions options_;
};

}  // namespace

std::unique_ptr<Source> make_html_source(const config::SourceConfig& config, const Path& path) {
  HtmlOptions options;
  options.drop.insert(config.html().drop().begin(), config.html().drop().end());
  options.keep_page_furniture = config.html().keep_page_furniture();
  FilterChain cleaning;
  add_binary(config, cleaning);
  cleaning.add({"html_references", std::make_shared<BadReferences>()});
  add_text_cleaning(config, cleaning);
  cleaning.add({"html_text", std::make_shared<HtmlText>(std::move(options))});
  return make_file_source(config, path, {"*.html", "*.htm", "*.xhtml"}, whole_file(config),
                          std::move(cleaning));
}

}  // namespace toroid
