// The model's own checks of its config, and its parameter counts.
#pragma once

#include <cstdint>

namespace toroid::config {
class ModelConfig;
}

namespace toroid::model {

// Throws UserError with the first value out of bounds or the first relation that fails. The bounds are such
// that no count or size in bytes that follows from a checked config passes 2^63.
void check(const config::ModelConfig& model);

struct ParameterCount {
  int64_t embedding;  // V * D
  int64_t layers;     // all layers and the final norm: the report's "non-embedding parameters"
  int64_t head;       // V * D where the head is not tied, else 0
  int64_t total() const { return embedding + layers + head; }
};

// `model` has been checked.
ParameterCount count_parameters(const config::ModelConfig& model);

}  // namespace toroid::model
