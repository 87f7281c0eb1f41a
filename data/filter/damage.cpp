#include "data/filter/damage.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "data/filter/filter.pb.h"
#include "data/filter/place.h"

namespace toroid {
namespace {

using Policy = config::DamageFilter;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

class Damage final : public Filter {
 public:
  explicit Damage(Policy::Policy policy) : policy_(policy) {}

  Verdict apply(Document& document) const override {
    const auto nuls = static_cast<int64_t>(std::count(document.text.begin(), document.text.end(), '\0'));
    const int64_t not_utf8 = static_cast<int64_t>(repair_utf8(document.text)) - nuls;
    Verdict verdict;
    std::string found;
    for (const auto& [count, what] : {std::pair{not_utf8, "bytes that are not UTF-8"},
                                      {std::exchange(document.bad_escapes, 0), "escapes of no character"},
                                      {nuls, "NUL characters"}}) {
      if (count == 0) continue;
      found += (found.empty() ? "" : ", ") + with_commas(count) + " " + what;
      verdict.notes.emplace_back(what);
    }
    if (found.empty()) return verdict;
    if (policy_ == Policy::REFUSE) {
      throw UserError(place_of(document) + " holds damaged text (" + found +
                      "); mend it, or let invalid_utf8 of its source, or policy of its filter, be REPAIR or "
                      "DROP");
    }
    if (policy_ == Policy::DROP) {
      verdict.drop = "damaged text";
    } else {
      verdict.notes.emplace_back("repaired with U+FFFD");
    }
    return verdict;
  }

 private:
  Policy::Policy policy_;
};

}  // namespace

size_t repair_utf8(std::string& text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (text.find('\0') == std::string::npos && valid_utf8(text)) return 0;
  std::string out;
  out.reserve(text.size());
  size_t replaced = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = text[i] == '\0' ? 0 : decode_character(std::string_view(text).substr(i)).length;
    if (length == 0) {
      out += kReplacement, ++replaced, ++i;
    } else {
      out.append(text, i, length), i += length;
    }
  }
  text = std::move(out);
  return replaced;
}

std::unique_ptr<Filter> make_damage_filter(const config::FilterConfig& config, const std::string&) {
  return std::make_unique<Damage>(config.damage().policy());
}

}  // namespace toroid
