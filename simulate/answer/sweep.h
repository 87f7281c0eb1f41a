// A table of simulations: every combination of the values that some paths of a config take.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "simulate/answer/answer.h"

namespace toroid::train {

inline constexpr int64_t kMostRows = 10'000;  // of a sweep

// A path of the config as --set takes it, "chip" (as --chip) or "config" (as --config), and what it is set
// to.
struct SweepAxis {
  std::string path;
  std::vector<std::string> values;
};
// Reads "path=v1,v2"; commas within brackets, braces and quotation marks belong to a value. UserError where
// the text has another form.
SweepAxis sweep_axis(const std::string& text);
// A value as tables and charts name it: a file by its stem.
std::string shown_value(const SweepAxis& axis, const std::string& value);

struct SweepRequest {
  Path config;                         // may be empty where "config" is an axis
  std::vector<std::string> overrides;  // come before those of a row
  std::string chip;                    // the config's where empty, else "host"
  bool nominal = false;                // the chip's constants, though there are fitted ones
  std::vector<SweepAxis> axes;         // the last one counts fastest
  // Weak scaling: batch.global_sequences grows with mesh.pods x mesh.data from what it is in the config, so
  // that each replica keeps its work.
  bool weak = false;
};

struct SweepRow {
  std::vector<std::string> values;  // one for each axis
  int64_t global_sequences = 0;
  std::optional<Answer> answer;
  std::string refusal;  // why there is none: a config that is refused, or that does not fit in memory
};

struct Sweep {
  std::vector<SweepAxis> axes;
  bool weak = false;
  std::vector<SweepRow> rows;
  Seconds took{0};
};

// Simulates a step and answers.
using Simulator = std::function<Answer(const config::RunConfig& run, const sim::Chip& chip)>;

// UserError for more than kMostRows rows, an axis that is given twice or none of whose values can be set, and
// where the config without the axes is refused (it is what weak scaling scales). A row that is refused, for
// whatever reason, says why and the sweep goes on.
Sweep sweep(const SweepRequest& request, const Plugins& plugins, const Simulator& simulator);

// "needs 41.20 GB of the chip's 16.00 GB: activations 23.10 GB, ..."
std::string does_not_fit(const MemoryAnswer& memory);

void print_sweep(std::ostream& out, const Sweep& sweep);
// One line a row; a refused row has its reason in the last column and empty cells for figures.
std::string sweep_csv(const Sweep& sweep);

}  // namespace toroid::train
