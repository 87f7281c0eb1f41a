#include "data/filter/gopher_quality.h"

#include <algorithm>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "data/filter/characters.h"
#include "data/filter/filter.pb.h"

namespace toroid {
namespace {

using QualityLimits = config::GopherQualityFilter;

constexpr std::string_view kDots = "...", kEllipsis = "\u2026", kBullet = "\u2022";
constexpr int64_t kMostWords = int64_t{1} << 40;
constexpr double kMostSymbols = 1e6;  // for each word

int64_t occurrences(std::string_view text, std::string_view of) {
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(of, at)) != std::string_view::npos; at += of.size()) ++count;
  return count;
}

template <class Is>
bool any_character(std::string_view word, const Is& is) {
  for (size_t i = 0; i < word.size();) {
    const Character c = decode_character(word.substr(i));
    if (is(c.code)) return true;
    i += std::max<size_t>(c.length, 1);
  }
  return false;
}

class GopherQuality final : public Filter {
 public:
  explicit GopherQuality(const QualityLimits& config)
      : config_(config), stop_words_(config.stop_word().begin(), config.stop_word().end()) {
    if (stop_words_.empty()) stop_words_ = {"the", "be", "to", "of", "and", "that", "have", "with"};
  }

  Verdict apply(Document& document) const override {
    return {failed(count_quality(document.text, words_of(document.text), stop_words_))};
  }

 private:
  // The name of the first rule that fails, "" where none does.
  const char* failed(const QualityCounts& c) const {
    if (c.plain_words < config_.minimum_words()) return "minimum_words";
    if (config_.maximum_words() > 0 && c.plain_words > config_.maximum_words()) return "maximum_words";
    if (c.words == 0) return "";  // the shares below are of nothing
    if (c.plain_words > 0) {
      const double mean = share(c.plain_characters, c.plain_words);
      if (mean < config_.minimum_mean_word()) return "minimum_mean_word";
      if (config_.maximum_mean_word() > 0 && mean > config_.maximum_mean_word()) return "maximum_mean_word";
    }
    if (share(c.hashes, c.words) > config_.maximum_hashes()) return "maximum_hashes";
    if (share(c.ellipses, c.words) > config_.maximum_ellipses()) return "maximum_ellipses";
    if (share(c.bullets, c.lines) > config_.maximum_bullet_lines()) return "maximum_bullet_lines";
    if (share(c.ellipsis_ends, c.lines) > config_.maximum_ellipsis_lines()) return "maximum_ellipsis_lines";
    if (share(c.alphabetic, c.words) < config_.minimum_alphabetic()) return "minimum_alphabetic";
    if (c.stop_words < config_.minimum_stop_words()) return "minimum_stop_words";
    return "";
  }

  QualityLimits config_;
  std::vector<std::string> stop_words_;
};

void check_words(const QualityLimits& config, const std::string& path) {
  check_range(path + ".minimum_words", config.minimum_words(), int64_t{0}, kMostWords);
  check_range(path + ".maximum_words", config.maximum_words(), int64_t{0}, kMostWords);
  if (config.maximum_words() > 0 && config.maximum_words() < config.minimum_words()) {
    throw UserError(path + ".maximum_words is " + std::to_string(config.maximum_words()) +
                    ", below minimum_words, which is " + std::to_string(config.minimum_words()) +
                    ": no document would be kept");
  }
  check_range(path + ".minimum_mean_word", config.minimum_mean_word(), 0.0, 1e6);
  check_range(path + ".maximum_mean_word", config.maximum_mean_word(), 0.0, 1e6);
  if (config.maximum_mean_word() > 0 && config.maximum_mean_word() < config.minimum_mean_word()) {
    throw UserError(path + ".maximum_mean_word is " + number(config.maximum_mean_word()) +
                    ", below minimum_mean_word, which is " + number(config.minimum_mean_word()) +
                    ": no document would be kept");
  }
}

void check_stop_words(const QualityLimits& config, const std::string& path) {
  for (const std::string& word : config.stop_word()) {
    if (words_of(word).size() != 1 || words_of(word)[0] != word) {
      throw UserError(path + ".stop_word is " + in_quotes(word) + ", but each is one word without blanks");
    }
  }
  const int64_t known = config.stop_word_size() == 0 ? 8 : config.stop_word_size();
  check_range(path + ".minimum_stop_words", config.minimum_stop_words(), int64_t{0}, known);
}

}  // namespace

QualityCounts count_quality(std::string_view text, std::span<const std::string_view> words,
                            const std::vector<std::string>& stop_words) {
  QualityCounts counts;
  const std::unordered_set<std::string_view> wanted(stop_words.begin(), stop_words.end());
  std::unordered_set<std::string_view> found;
  counts.words = static_cast<int64_t>(words.size());
  for (const std::string_view word : words) {
    if (any_character(word, [](char32_t c) { return !is_punctuation(c); })) {
      ++counts.plain_words;
      counts.plain_characters += characters(word);
    }
    counts.alphabetic += any_character(word, is_letter) ? 1 : 0;
    if (wanted.count(word) != 0) found.insert(word);
  }
  counts.stop_words = static_cast<int64_t>(found.size());
  counts.hashes = std::count(text.begin(), text.end(), '#');
  counts.ellipses = occurrences(text, kDots) + occurrences(text, kEllipsis);
  for (const std::string_view line : lines_of(text)) {
    const std::string_view inner = without_spaces(line);
    ++counts.lines;
    counts.bullets += inner.starts_with(kBullet) || inner.starts_with('-') ? 1 : 0;
    counts.ellipsis_ends += inner.ends_with(kDots) || inner.ends_with(kEllipsis) ? 1 : 0;
  }
  return counts;
}

std::unique_ptr<Filter> make_gopher_quality_filter(const config::FilterConfig& config,
                                                   const std::string& path) {
  const QualityLimits& limits = config.gopher_quality();
  check_words(limits, path);
  check_range(path + ".maximum_hashes", limits.maximum_hashes(), 0.0, kMostSymbols);
  check_range(path + ".maximum_ellipses", limits.maximum_ellipses(), 0.0, kMostSymbols);
  check_range(path + ".maximum_bullet_lines", limits.maximum_bullet_lines(), 0.0, 1.0);
  check_range(path + ".maximum_ellipsis_lines", limits.maximum_ellipsis_lines(), 0.0, 1.0);
  check_range(path + ".minimum_alphabetic", limits.minimum_alphabetic(), 0.0, 1.0);
  check_stop_words(limits, path);
  return std::make_unique<GopherQuality>(limits);
}

}  // namespace toroid
