// A small run on v5e that takes milliseconds to simulate.
#pragma once

#include <string>
#include <vector>

#include "simulate/play/chips.h"
#include "simulate/play/simulate.h"
#include "train/config/load.h"

namespace toroid::train::testing {

inline const Path kRecipe = "configs/gemma_2b_v5e_512.textproto";

inline config::RunConfig recipe(const std::vector<std::string>& overrides) {
  return config::load(kRecipe, overrides).run;
}

// 2 pods of 4x4, model axis 4.
inline config::RunConfig small_run(std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(), {"model.d_model=512", "model.layers=3", "model.ffn=1024",
                                       "model.vocab=4096", "mesh.torus=[4,4]", "mesh.data=4", "mesh.model=4",
                                       "batch.tokens_per_sequence=512", "batch.global_sequences=8"});
  return recipe(overrides);
}

// Without the latencies between pods: a small step is shorter than they are.
inline sim::Chip v5e() {
  sim::Chip chip = read_chip("v5e", kRecipe);
  chip.host.message_latency = chip.host.ring_step = Seconds(0);
  return chip;
}

}  // namespace toroid::train::testing
