// A computer whose ranks are chips: what operators take there was measured (`toroid doctor`), and so were the
// collectives of ranks that share it (`toroid bench collectives`).
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/op/op.h"

namespace toroid::sim {

// What one kind of operator takes on all the threads of a measurement.
struct OperatorFigure {
  double s_start = 0, s_per_flop = 0, s_per_vector_flop = 0, s_per_byte = 0;
  struct Rate {
    double bytes = 0, s_per_byte = 0;
  };
  // The rates of an operator without products, with rising bytes: what fits the caches is faster than what
  // does not.
  std::vector<Rate> rates;

  // s_start + s_per_flop x FLOPs of products + s_per_vector_flop x others + s_per_byte x bytes; with rates,
  // bytes x s_per_byte, linear in the logarithm of the bytes and constant beyond the ends.
  Seconds time(const Cost& cost) const;
};

struct OperatorSample {
  Cost cost;
  Seconds time{0};
};

// The figure with the least relative squares over the samples, none of whose numbers is negative. Samples
// without products give rates: the mean of those within a factor of 1.5 in bytes. There is at least one.
OperatorFigure fit(std::span<const OperatorSample> samples);

// One way of carrying out a collective, timed.
struct CollectiveTime {
  std::string operation, method;
  int ranks = 0;      // of the group, all on this computer
  int64_t bytes = 0;  // of the whole array
  double seconds = 0;
};

struct MeasuredMachine {
  int cores = 1;                  // that operators were measured on
  int ranks = 1;                  // that share them
  int threads = 1;                // of each
  double memory_bytes_per_s = 0;  // of all cores: read and written
  // By kind, on all cores and on one of them; the second may be empty.
  std::map<std::string, OperatorFigure, std::less<>> on_all, on_one;
  std::vector<CollectiveTime> collectives;

  // What a rank gets done in a second, as a share of what all cores do.
  double share() const;
  // What an operator of one rank takes while the others are as busy. A kind that was not measured takes its
  // products at the rate of matmul and its bytes at the memory's bandwidth.
  Seconds time(std::string_view kind, const Cost& cost) const;
  // What a collective on one axis takes while the other groups of that axis carry out theirs. Between sizes
  // that were measured it goes by the logarithm of the size; where nothing alike was measured, by what has to
  // be read and written.
  Seconds collective_time(const std::string& operation, const std::string& method, int group_ranks,
                          int64_t bytes) const;
  // How much of that time operators under way lose: all of it where no core is free.
  Seconds lost(Seconds collective) const;
};

}  // namespace toroid::sim
