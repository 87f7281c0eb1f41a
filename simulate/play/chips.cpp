#include "simulate/play/chips.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/sim/chip.pb.h"
#include "simulate/play/named_file.h"
#include "simulate/play/schedule.pb.h"
#include "train/config/reader.h"

namespace toroid::train {
namespace {

// What is wrong with the file begins with its name.
template <class Config, class Make>
auto parse(std::string_view text, const std::string& name, const Make& make) {
  Config config;
  config::read_text(text, name, config);
  try {
    return make(config);
  } catch (const UserError& error) {
    throw UserError(name + ": " + error.what());
  }
}

std::string text_of(const Path& path) {
  return read_file(path, config::kLargestFile);
}

}  // namespace

sim::Chip parse_chip(std::string_view text, const std::string& name) {
  return parse<config::ChipConfig>(text, name, sim::make_chip);
}

sim::Chip read_chip(const std::string& name, const Path& config) {
  const Path file = named_file("chip", name, "chips", config);
  return parse_chip(text_of(file), printable(file.string()));
}

sim::Schedule parse_schedule(std::string_view text, const std::string& name) {
  return parse<config::StepScheduleConfig>(text, name, [&](const config::StepScheduleConfig& config) {
    return sim::make_schedule(config, printable(Path(name).stem().string()));
  });
}

sim::Schedule read_schedule(const std::string& name, const Path& config) {
  const Path file = named_file("schedule", name, "schedules", config);
  return parse_schedule(text_of(file), printable(file.string()));
}

}  // namespace toroid::train
