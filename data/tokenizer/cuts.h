// Where text may be cut so that encoding the parts gives the ids of the whole.
//
// BPE starts from characters and user-defined pieces (matched greedily, longest first, never merged) and
// merges neighbours into pieces of the vocabulary. Whatever it yields is a piece, so where no piece of two or
// more characters has x directly before y, no match and no merge ever crosses a place between x and y, and
// the merges left and right of it do not see each other (ties are broken by position). Such a place is a safe
// cut. A run of one whitespace character is safe at both ends as well where every user-defined piece that has
// the character is a run of it: matching then falls into step at the run's start and takes the longest runs
// from there.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer/model.h"

namespace toroid {

class Cuts {
 public:
  explicit Cuts(const TokenizerModel& model);
  Cuts(const Cuts&) = delete;  // run_of_ points into it
  Cuts& operator=(const Cuts&) = delete;

  // Whether a piece has ASCII character x directly before y.
  bool joins_ascii(uint8_t x, uint8_t y) const { return joins_[size_t{x} * 128 + y] != 0; }
  // The same for any characters; true also where two pairs share a bit of the filter, which only costs a cut.
  bool joins(char32_t x, char32_t y) const { return filter_[slot(x, y)] != 0; }

  // Ids of runs of one whitespace character: id[n] for n of them, -1 where n of them are no piece (n = 1).
  struct Run {
    std::vector<int32_t> id;
    bool usable() const { return id.size() > 2; }
    size_t longest() const { return id.size() - 1; }
  };
  // The run of ' ', '\n' or '\t'; nullptr for other characters and where runs are not usable.
  const Run* run(uint8_t c) const { return run_of_[c]; }

 private:
  static size_t slot(char32_t x, char32_t y) {
    return static_cast<size_t>((x * 0x9e3779b97f4a7c15ULL + y * 0xc2b2ae3d27d4eb4fULL) >> 42);  // 2^22 slots
  }
  void add_pairs(std::string_view text);
  void add_runs(const TokenizerModel& model, char c);

  std::vector<uint8_t> joins_;   // 128 x 128
  std::vector<uint8_t> filter_;  // 2^22
  std::array<Run, 3> runs_;
  std::array<const Run*, 256> run_of_{};
};

}  // namespace toroid
