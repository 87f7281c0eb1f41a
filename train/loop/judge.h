// Who computed it wrong: results of the same work by several ranks, some of them more than once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace toroid::train {

struct Computed {
  int rank = 0;  // who did it; its results in the order of time
  uint64_t result = 0;
};

struct Verdict {
  std::vector<int> ranks;       // that computed wrong, or, where nobody can say which did, all who may have
  std::optional<bool> lasting;  // every result of theirs after the first was wrong too; nothing: not known
};

// Nothing where all results are equal. The right one is what more results than any other say; where there is
// no such one, every rank may be wrong.
std::optional<Verdict> judge(std::span<const Computed> results);

}  // namespace toroid::train
