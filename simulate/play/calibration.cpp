#include "simulate/play/calibration.h"

#include <set>
#include <vector>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "simulate/play/named_file.h"
#include "train/config/reader.h"

namespace toroid::train {
namespace {

constexpr const char* kFile = "calibration.textproto";
using Constant = config::Calibration::Constant;

// Where a constant's value goes; false where a chip has none of that name.
bool assign(sim::Chip& chip, const std::string& name, double value) {
  sim::ChipConstants& to = chip.constants;
  if (name == "product_efficiency") {
    to.product_efficiency = value;
  } else if (name == "attention_efficiency") {
    to.attention_efficiency = value;
  } else if (name == "memory_efficiency") {
    to.memory_efficiency = value;
  } else if (name == "link_efficiency") {
    to.link_efficiency = value;
  } else if (name == "collective_overhead") {
    to.collective_overhead = Seconds(value);
  } else if (name == "operator_overhead") {
    to.operator_overhead = Seconds(value);
  } else if (name == "pod_message") {
    chip.host.message_latency = Seconds(value);
  } else if (name == "pod_ring_step") {
    chip.host.ring_step = Seconds(value);
  } else {
    return false;
  }
  return true;
}

void check(const Constant& constant) {
  const std::string name = "constant " + in_quotes(constant.name());
  sim::Chip chip;
  if (!assign(chip, constant.name(), 1)) throw UserError(name + " is not one that chips have");
  if (constant.of().empty()) throw UserError(name + " does not say of which chip it is");
  check_range(name + ".least", constant.has_least(), constant.least(), 0.0, 1e6);
  check_range(name + ".most", constant.has_most(), constant.most(), constant.least(), 1e6);
  check_range(name + ".value", constant.has_value(), constant.value(), constant.least(), constant.most());
  // Shares and rates divide.
  const bool duration = constant.unit() == "s";
  if (!duration) check_range(name + ".least", constant.least(), 1e-6, 1e6);
}

void check(const config::Calibration::Training& training) {
  const std::string name = "training " + in_quotes(training.name());
  if (training.recipe().empty() || training.recipe().find('/') != std::string::npos)
    throw UserError(name + ".recipe is " + in_quotes(training.recipe()) +
                    "; it must be the name of a file beside this one");
  check_range(name + ".weight", training.weight(), 0.0, 1e6);
  if (training.run_size() == 0 || training.run(0).pods() != 1)
    throw UserError(name + " must begin with a run on one pod");
  for (const auto& run : training.run()) {
    check_range(name + ".run.pods", run.has_pods(), run.pods(), int64_t{1}, int64_t{4096});
    check_range(name + ".run.mfu_percent", run.has_mfu_percent(), run.mfu_percent(), 1e-3, 100.0);
  }
}

void check(const config::Calibration::Collective& collective) {
  const std::string name = "collective " + in_quotes(collective.name());
  if (collective.torus_size() < 1 || collective.torus_size() > 2)
    throw UserError(name + ".torus must have one or two dimensions");
  for (const int64_t size : collective.torus()) check_range(name + ".torus", size, int64_t{1}, int64_t{256});
  check_range(name + ".gathered", collective.has_gathered(), collective.gathered(), int64_t{0},
              int64_t{collective.torus_size() - 1});
  check_range(name + ".bytes", collective.has_bytes(), collective.bytes(), int64_t{1}, int64_t{1} << 40);
  check_range(name + ".seconds", collective.has_seconds(), collective.seconds(), 1e-9, 1e3);
}

}  // namespace

Path calibration_file(const Path& config) {
  for (const Path& folder : config_folders(config)) {
    if (const Path file = folder / kFile; is_reachable(file)) return file;
  }
  throw UserError(
      std::string("configs/") + kFile +
      " was not found, which holds the constants of chips; run toroid in its source tree, or name "
      "the file");
}

config::Calibration read_calibration(const Path& file) {
  config::Calibration out;
  const std::string name = printable(file.string());
  config::read_text(read_file(file, config::kLargestFile), name, out);
  try {
    std::set<std::string> known;
    for (const auto& constant : out.constant()) {
      check(constant);
      if (!known.insert(constant.of() + "." + constant.name()).second)
        throw UserError("constant " + in_quotes(constant.name()) + " of " + in_quotes(constant.of()) +
                        " is there twice");
    }
    known.clear();
    for (const auto& training : out.training()) {
      check(training);
      if (!known.insert(training.name()).second)
        throw UserError("training " + in_quotes(training.name()) + " is there twice");
    }
    for (const auto& collective : out.collective()) check(collective);
  } catch (const UserError& error) {
    throw UserError(name + ": " + error.what());
  }
  return out;
}

bool set_fitted(const config::Calibration& calibration, sim::Chip& chip) {
  bool found = false;
  for (const Constant& constant : calibration.constant()) {
    if (constant.of() == chip.name) found = assign(chip, constant.name(), constant.value()) || found;
  }
  chip.fitted = found;
  return found;
}

}  // namespace toroid::train
