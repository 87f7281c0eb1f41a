#include "data/batch/skip_list.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace toroid {

void SkipList::add(int64_t first, int64_t last) {
  if (first < 0 || last < first) {
    throw UserError("a skipped range begins at " + std::to_string(first) + " and ends at " +
                    std::to_string(last) + ", but 0 <= begin <= end is needed");
  }
  if (first == last) return;
  ranges_.push_back({first, last});
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  std::vector<Range> merged;
  for (const Range& range : ranges_) {
    if (!merged.empty() && range.first <= merged.back().last) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  ranges_ = std::move(merged);
}

int64_t SkipList::index(int64_t k) const {
  int64_t index = k;
  for (const Range& range : ranges_) {
    if (index < range.first) break;
    const int64_t length = range.last - range.first;
    require(index <= std::numeric_limits<int64_t>::max() - length, "a global index fits 64 bits");
    index += length;
  }
  return index;
}

}  // namespace toroid
