// Ranges of global sequence indices that are left out, recorded where a run was rolled back past bad data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

class SkipList {
 public:
  SkipList() = default;
  // Leaves out [first, last); ranges may overlap and come in any order.
  void add(int64_t first, int64_t last);
  // The k-th index (from 0) that is not left out.
  int64_t index(int64_t k) const;
  bool empty() const { return ranges_.empty(); }

  struct Range {
    int64_t first, last;
  };
  // Sorted, disjoint: what a checkpoint records.
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

}  // namespace toroid
