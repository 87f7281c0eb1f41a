#include "data/batch/skip_list.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace toroid {

SkipList::SkipList(std::vector<Range> ranges) {
  std::erase_if(ranges, [](const Range& range) {
    if (range.first < 0 || range.last < range.first || range.last > kMostIndex) {
      throw UserError("a skipped range begins at " + std::to_string(range.first) + " and ends at " +
                      std::to_string(range.last) + ", but 0 <= begin <= end <= 2^60 is needed");
    }
    return range.first == range.last;
  });
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  int64_t before = 0;
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
  for (const Range& range : ranges_) {
    before_.push_back(before);
    before += range.last - range.first;
  }
}

std::vector<SkipList::Range> SkipList::with(Range one) const {
  std::vector<Range> all = ranges_;
  all.push_back(one);
  return all;
}

int64_t SkipList::index(int64_t k) const {
  // What is not left out before each range grows from range to range.
  size_t low = 0, high = ranges_.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (ranges_[middle].first - before_[middle] <= k) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return k;
  const Range& last = ranges_[low - 1];
  const int64_t skipped = before_[low - 1] + last.last - last.first;
  require(k <= std::numeric_limits<int64_t>::max() - skipped, "a global index fits 64 bits");
  return k + skipped;
}

int64_t SkipList::position(int64_t index) const {
  const auto after =
      std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.first < index; });
  if (after == ranges_.begin()) return index;
  const auto at = static_cast<size_t>(after - ranges_.begin()) - 1;
  return index - before_[at] - (std::min(ranges_[at].last, index) - ranges_[at].first);
}

std::optional<SkipList::Range> SkipList::range_of(int64_t index) const {
  const auto found =
      std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.last <= index; });
  if (found == ranges_.end() || index < found->first) return std::nullopt;
  return *found;
}

std::vector<SkipList::Range> SkipList::beyond(const SkipList& other) const {
  std::vector<Range> rest;
  auto cut = other.ranges_.begin();
  for (Range range : ranges_) {
    while (cut != other.ranges_.end() && cut->last <= range.first) ++cut;
    for (auto each = cut; each != other.ranges_.end() && each->first < range.last; ++each) {
      if (range.first < each->first) rest.push_back({range.first, each->first});
      range.first = each->last;
    }
    if (range.first < range.last) rest.push_back(range);
  }
  return rest;
}

std::string to_text(const std::vector<SkipList::Range>& ranges) {
  constexpr size_t kShown = 8;
  const size_t shown = std::min(ranges.size(), kShown);
  std::string text;
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) text += i + 1 == ranges.size() ? " and " : ", ";
    text += std::to_string(ranges[i].first) + " to " + std::to_string(ranges[i].last - 1);
  }
  if (shown < ranges.size()) text += " and " + std::to_string(ranges.size() - shown) + " more ranges";
  return text;
}

}  // namespace toroid
