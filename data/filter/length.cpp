#include "data/filter/length.h"

#include <cstdint>
#include <utility>

#include "core/base/error.h"
#include "core/base/range.h"
#include "data/filter/characters.h"
#include "data/filter/filter.pb.h"

namespace toroid {
namespace {

constexpr int64_t kMostLength = int64_t{1} << 40;

class Length final : public Filter {
 public:
  explicit Length(config::LengthFilter bounds) : bounds_(std::move(bounds)) {}

  Verdict apply(Document& document) const override {
    const auto bytes = static_cast<int64_t>(document.text.size());
    if (bytes < bounds_.minimum_bytes()) return {"too short"};
    if (bounds_.maximum_bytes() > 0 && bytes > bounds_.maximum_bytes()) return {"too long"};
    if (bounds_.minimum_words() == 0 && bounds_.maximum_words() == 0) return {};
    const auto words = static_cast<int64_t>(words_of(document.text).size());
    if (words < bounds_.minimum_words()) return {"too few words"};
    if (bounds_.maximum_words() > 0 && words > bounds_.maximum_words()) return {"too many words"};
    return {};
  }

 private:
  config::LengthFilter bounds_;
};

void check_bounds(const std::string& path, const char* of, int64_t minimum, int64_t maximum) {
  const std::string name = path + ".maximum_" + of;
  check_range(path + ".minimum_" + of, minimum, int64_t{0}, kMostLength);
  check_range(name, maximum, int64_t{0}, kMostLength);
  if (maximum > 0 && maximum < minimum) {
    throw UserError(name + " is " + std::to_string(maximum) + ", below minimum_" + of + ", which is " +
                    std::to_string(minimum) + ": no document would be kept");
  }
}

}  // namespace

std::unique_ptr<Filter> make_length_filter(const config::FilterConfig& config, const std::string& path) {
  const config::LengthFilter& bounds = config.length();
  check_bounds(path, "bytes", bounds.minimum_bytes(), bounds.maximum_bytes());
  check_bounds(path, "words", bounds.minimum_words(), bounds.maximum_words());
  if (bounds.minimum_bytes() + bounds.maximum_bytes() + bounds.minimum_words() + bounds.maximum_words() ==
      0) {
    throw UserError(path + " has no bound; set one, such as minimum_bytes: 200");
  }
  return std::make_unique<Length>(bounds);
}

}  // namespace toroid
