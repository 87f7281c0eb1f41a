// What pods exchange, and how a rank's shards are called.
#pragma once

#include <cstdint>
#include <string>

namespace toroid::pathways {

enum class PodWire : uint8_t { fp32, bf16, int8 };

struct Options {
  PodWire wire = PodWire::fp32;
  bool outer = false;       // pods train apart and agree by Nesterov's step; else gradients are summed
  int64_t every_steps = 1;  // H
  double learning_rate = 0.7;
  double momentum = 0.9;
};

struct Shard {
  std::string unit;      // "layer.3"
  int64_t elements = 0;  // a multiple of op::kQuantBlock
};

}  // namespace toroid::pathways
