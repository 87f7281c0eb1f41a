// Which source a sequence comes from: a low-discrepancy function of its global index.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace toroid {

// Weights count tokens, and since all sequences have the same length, sequences. They are rounded to
// multiples of 2^-20 of their sum (a weight above zero to at least one). In every prefix of n sequences each
// source has had its weight times n within one sequence: Tijdeman's answer to the chairman assignment problem
// (1980), which picks, among the sources that are due, the one whose deadline comes first. The assignment
// repeats every 2^20 sequences.
class Mixture {
 public:
  explicit Mixture(std::span<const double> weights);

  struct Place {
    int source = 0;
    int64_t ordinal = 0;  // how many sequences of this source came before
  };
  Place place(int64_t global_index) const;
  int sources() const { return static_cast<int>(per_period_.size()); }
  // After rounding; they add up to one.
  double weight(int source) const;

 private:
  std::vector<uint16_t> source_;     // of each index in a period
  std::vector<uint32_t> ordinal_;    // within the period
  std::vector<int64_t> per_period_;  // sequences of each source
};

}  // namespace toroid
