// The flags of toroid simulate that try many configs: --sweep and --search.
#pragma once

#include <string>
#include <vector>

#include "launch/toroid/config_flags.h"
#include "simulate/answer/search.h"
#include "simulate/answer/sweep.h"

namespace toroid::launch {

struct ManyFlags {
  std::vector<std::string> sweeps;
  bool weak = false;
  std::string csv, chart;
  bool search = false;
  int best = 10;

  bool given() const { return search || weak || !sweeps.empty() || !csv.empty() || !chart.empty(); }
};

// `flags` outlives the parse.
void add_many_flags(CLI::App& app, ManyFlags& flags);

// Where flags.given(): what they ask for, on `chip` (the config's where empty). A sweep asks `simulator` for
// each row; a search records itself and asks `answerer`.
void simulate_many(const ManyFlags& flags, const ConfigFlags& config, const std::string& chip, bool nominal,
                   const train::Plugins& plugins, const train::Simulator& simulator,
                   const train::Answerer& answerer);

}  // namespace toroid::launch
