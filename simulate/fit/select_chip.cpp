#include "simulate/fit/select_chip.h"

#include "simulate/fit/machine_chip.h"
#include "simulate/play/calibration.h"
#include "simulate/play/chips.h"
#include "train/machine/collective_table.h"

namespace toroid::train {

sim::Chip select_chip(const std::string& name, const Path& config, const config::RunConfig& run,
                      bool nominal) {
  std::string chosen = name.empty() ? run.chip() : name;
  if (chosen.empty()) chosen = "host";
  if (chosen == "host") return read_machine_chip(run);
  sim::Chip out = read_chip(chosen, config);
  if (!nominal) (void)set_fitted(read_calibration(calibration_file(config)), out);
  return out;
}

}  // namespace toroid::train
