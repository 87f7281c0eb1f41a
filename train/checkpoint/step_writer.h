// The stages of a save, apart so that several ranks can write one step: every rank writes its files into the
// step's temporary directory and reports; one rank commits all reports together.
#pragma once

#include <span>
#include <vector>

#include "train/checkpoint/manifest.h"

namespace toroid {

struct RankReport {
  std::vector<ManifestFile> files;
  std::vector<CheckpointTensor> tensors;  // hash over this rank's slices alone
};

// "master-00003-of-00004.safetensors"
std::string checkpoint_file_name(const std::string& part, const CheckpointRank& rank);

// Where the files of `step` are written before it is whole.
Path saving_directory(const Path& checkpoints, int64_t step);

// Removes what an interrupted save left, and what an interrupted removal did, unless one is `removing`; then
// creates the temporary directory of `step`.
Path begin_step(const Path& checkpoints, int64_t step, bool removing = false);

// The slices of one part in the order in which they are written.
struct PartSlices {
  std::string part;
  std::vector<const TensorSlice*> slices;
};
std::vector<PartSlices> parts_in_order(std::span<const TensorSlice> slices);

// Writes one synced file for each part among `slices`, each block read back as soon as it was written, on up
// to `threads` threads; one of them at a time asks a slice for its bytes. On one thread it asks in the order
// of parts_in_order().
RankReport write_rank(const Path& temporary, CheckpointRank rank, int64_t step,
                      std::span<const TensorSlice> slices, int threads = 1);

// Adds the reports up, writes the manifest, and renames the directory to checkpoints/step-N. Returns the
// manifest's seal.
std::string commit_step(const Path& temporary, const CheckpointState& state,
                        std::span<const RankReport> reports);

// Removes checkpoints/step-N; a stop half-way leaves no directory that looks like a step. SystemError where
// it cannot.
void remove_step(const Path& checkpoints, int64_t step);

std::string step_name(int64_t step);  // "step-120"

}  // namespace toroid
