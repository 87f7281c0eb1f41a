// Rates that are measured in several rounds, on a machine that may do other things meanwhile.
#pragma once

#include <algorithm>

namespace toroid::train {

class BestOf {
 public:
  void add(double rate) {
    worst_ = best_ > 0 ? std::min(worst_, rate) : rate;
    best_ = std::max(best_, rate);
  }
  double best() const { return best_; }
  // How far the worst round was below the best, as a share of the best.
  double spread() const { return best_ > 0 ? 1 - worst_ / best_ : 0; }

 private:
  double best_ = 0, worst_ = 0;
};

// Rounds that differ by more were not alone on the machine.
inline constexpr double kAlikeRounds = 0.1;

}  // namespace toroid::train
