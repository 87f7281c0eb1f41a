// Documents that repeat themselves, by the rules of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1) in
// the reading of datatrove 0.10.1, whose counts these are. Its words are those of a tokenizer of English;
// the filter's here are what stands between white space.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

struct Repeats {
  int64_t all = 0, repeated = 0;  // the first of equal ones is not repeated
  int64_t repeated_characters = 0;
};

struct RepetitionCounts {
  int64_t characters = 0;  // code points of the text
  Repeats paragraphs;      // cut at runs of two newlines or more
  Repeats lines;           // cut at runs of newlines
  // Of the most frequent run of n = 2, 3, 4 words, joined by blanks: its characters times its count. Of
  // several equally frequent ones, the first; 0 where the text has fewer words.
  std::array<int64_t, 3> top{};
  // Characters in runs of n = 5 ... 10 words that came before, joined by nothing. After such a run the search
  // goes on behind it, so that none is counted twice.
  std::array<int64_t, 6> duplicate{};
};

// `words` are the text's, however they were cut; none holds white space.
RepetitionCounts count_repetition(std::string_view text, std::span<const std::string_view> words);

std::unique_ptr<Filter> make_gopher_repetition_filter(const config::FilterConfig& config,
                                                      const std::string& path);

}  // namespace toroid
