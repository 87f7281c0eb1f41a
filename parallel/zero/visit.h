// A training step's walk over the units. Gathers, frees and reductions are functions of this list.
#pragma once

#include <vector>

namespace toroid {

// What a visit reads of a unit.
struct UnitRead {
  int unit = 0;
  bool rows = false;      // rows of matrices that are not packed (the embedding's)
  bool forward = false;   // weights packed for y = x W^T
  bool backward = false;  // weights packed for dx = dy W
};

struct Visit {
  bool backward = false;
  int stage = 0;  // 0 embedding, 1..L layers, L + 1 head
  std::vector<UnitRead> reads;
  std::vector<int> writes;  // units whose gradient it adds to
};

}  // namespace toroid
