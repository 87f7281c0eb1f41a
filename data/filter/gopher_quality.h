// Documents that are no running text, by the rules of Gopher (Rae et al. 2021, arXiv:2112.11446, section
// A1.1) in the reading of datatrove 0.10.1, whose counts these are. Its words are those of a tokenizer of
// English; the filter's here are what stands between white space.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

struct QualityCounts {
  int64_t words = 0;
  int64_t plain_words = 0, plain_characters = 0;  // words that are more than punctuation
  int64_t alphabetic = 0;                         // words with a letter
  int64_t stop_words = 0;                         // different ones
  int64_t hashes = 0, ellipses = 0;               // in the text: "#", and "..." or U+2026
  int64_t lines = 0, bullets = 0, ellipsis_ends = 0;
};

// `words` are the text's, however they were cut.
QualityCounts count_quality(std::string_view text, std::span<const std::string_view> words,
                            const std::vector<std::string>& stop_words);

std::unique_ptr<Filter> make_gopher_quality_filter(const config::FilterConfig& config,
                                                   const std::string& path);

}  // namespace toroid
