// Ranges of global sequence indices that are left out (data.skip), so that a run can go on past bad data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace toroid {

class SkipList {
 public:
  struct Range {
    int64_t first, last;  // [first, last)
    bool operator==(const Range&) const = default;
  };

  SkipList() = default;
  // Ranges may overlap and come in any order. UserError unless 0 <= first <= last <= kMostIndex.
  explicit SkipList(std::vector<Range> ranges);
  // Leaves out [first, last) too.
  void add(int64_t first, int64_t last) { *this = SkipList(with({first, last})); }

  // The k-th index (from 0) that is not left out.
  int64_t index(int64_t k) const;
  // How many indices below `index` are not left out: the k of index(k) where `index` is not left out itself.
  int64_t position(int64_t index) const;
  // The range that leaves `index` out.
  std::optional<Range> range_of(int64_t index) const;
  // What this list leaves out and `other` does not.
  std::vector<Range> beyond(const SkipList& other) const;
  bool empty() const { return ranges_.empty(); }
  // Sorted, disjoint, none beginning where another ends: what a checkpoint records.
  const std::vector<Range>& ranges() const { return ranges_; }

  static constexpr int64_t kMostIndex = int64_t{1} << 60;

 private:
  std::vector<Range> with(Range one) const;
  std::vector<Range> ranges_;
  std::vector<int64_t> before_;  // indices that the ranges before each leave out
};

// "8 to 11 and 20 to 23", both ends left out; the first ones of many.
std::string to_text(const std::vector<SkipList::Range>& ranges);

}  // namespace toroid
