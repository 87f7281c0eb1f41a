// A step written anew: cut for other ranks, in another type, or as plain safetensors. What it is made from
// stays as it is.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint/checkpoint.h"

namespace toroid {

struct ElementRun {
  int64_t first = 0, last = 0;  // elements [first, last) of a tensor
};
// What each rank writes of a tensor, its runs in order; all runs of all ranks cover the tensor once.
using TensorCut = std::function<std::vector<std::vector<ElementRun>>(const CheckpointTensor& tensor)>;

// Each tensor in `ranks` even pieces.
TensorCut even_cut(int ranks);

struct StepConversion {
  Path from;                             // one step
  Path out;                              // a run to create, which will hold the step
  int ranks = 0;                         // that the step is cut for
  TensorCut cut;                         // for that many
  std::vector<std::string> parts = {};   // whose type changes; empty: all
  std::optional<ElementType> type = {};  // f32 or bf16; nothing: as they are
};
// Returns the step that was written. Its parent is the one that it was made from, its run a new one. BF16 is
// rounded to nearest. UserError where `out` is there already, or the bytes read are not those that were
// saved.
Path convert_step(const StepConversion& options);

struct PlainConversion {
  Path from;  // one step
  Path out;   // a directory to create
  std::string part = "master";
  std::optional<ElementType> type = {};  // f32 or bf16; nothing: as they are
  int64_t shard_bytes = 5'000'000'000;
};
// Writes model.safetensors, or shards and their index, of one part, its tensors whole and by their names.
// Returns the number of elements.
int64_t convert_to_plain(const PlainConversion& options);

// Writes `tensors` as Hugging Face lays out a model's directory: model.safetensors, or files of at most
// `shard_bytes` (one tensor may be larger) and model.safetensors.index.json.
void write_plain_model(const Path& out, std::vector<TensorSource> tensors, int64_t shard_bytes);

}  // namespace toroid
