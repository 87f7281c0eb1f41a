#include "simulate/fit/select_chip.h"

#include "simulate/fit/machine_chip.h"
#include "simulate/play/calibration.h"
#include "simulate/play/chips.h"
#include "train/machine/collective_table.h"

namespace toroid::train {

SelectedChip select_chip(const std::string& name, const Path& config, const config::RunConfig& run,
                         bool nominal) {
  std::string chosen = name.empty() ? run.chip() : name;
  if (chosen.empty()) chosen = "host";
  if (chosen == "host") return {read_machine_chip(run), "measured"};
  SelectedChip out{read_chip(chosen, config), "nominal"};
  if (nominal) return out;
  const auto fitted = fitted_constants(read_calibration(calibration_file(config)), out.chip.name);
  if (!fitted) return out;
  out.chip.constants = *fitted;
  out.constants = "fitted";
  return out;
}

}  // namespace toroid::train
