// Configs on TPU v5e, and their answers.
#pragma once

#include <string>
#include <vector>

#include "simulate/answer/answer.h"
#include "simulate/play/chips.h"
#include "train/config/load.h"
#include "train/engine/plugins.h"

namespace toroid::test {

inline constexpr const char* kGemma2b = "configs/gemma_2b_v5e_512.textproto";
inline constexpr const char* kGemma7b = "configs/gemma_7b_v5e_4096.textproto";

inline const train::Plugins& plugins() {
  static const train::Plugins all;
  return all;
}

inline config::RunConfig load(const std::string& file, const std::vector<std::string>& overrides) {
  return config::load(file, overrides).run;
}

inline sim::Chip v5e() {
  return train::read_chip("v5e", kGemma7b);
}

inline train::Answer answered(const config::RunConfig& run, const sim::Chip& chip,
                              const train::Simulation& simulation) {
  return train::answer(run, chip, simulation);
}

}  // namespace toroid::test
