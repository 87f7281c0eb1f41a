// Weights in and out of Hugging Face's form: `toroid import` and `toroid export`. Tensors pass through in
// pieces, so that neither needs the memory of a model.
#pragma once

#include <cstdint>

#include "core/base/io/file.h"
#include "core/base/io/safetensors.h"

namespace toroid::huggingface {

struct ImportOptions {
  Path model;  // directory with config.json and safetensors
  Path out;    // run directory to create
};

// Writes a run that holds step 0: the weights as fp32 masters, the config, the tokenizer where there is one.
// UserError where a tensor is missing, unknown, of another shape or not finite. Returns the number of
// parameters.
int64_t import_model(const ImportOptions& options);

struct ExportOptions {
  Path checkpoint;                      // a run or a step
  Path out;                             // directory to create
  ElementType type = ElementType::f32;  // f32, bf16 or f16
  int64_t shard_bytes = 5'000'000'000;  // largest file; one tensor may be larger
  bool average = false;                 // the EMA of the weights instead of the weights
};

// Writes model.safetensors (or shards and their index), config.json and the tokenizer's files. Returns the
// number of parameters.
int64_t export_model(const ExportOptions& options);

}  // namespace toroid::huggingface
