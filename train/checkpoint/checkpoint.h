// Checkpoints: a run holds checkpoints/step-N, each a directory of safetensors files (one for each rank and
// part, a part being "master", "exp_avg", "exp_avg_sq", "ema") and manifest.json. docs/formats.md describes
// both.
//
// A save writes to a temporary directory, syncs every file, reads back lengths and hashes, writes the
// manifest, syncs, renames. Older steps go only after the new one was read back once more in the background.
// So whatever stops a save, the step before it loads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"
#include "core/base/io/safetensors.h"
#include "train/checkpoint/background_thread.h"
#include "train/checkpoint/keep.h"
#include "train/checkpoint/lineage.h"

namespace toroid {

// What a rank holds of one tensor: `elements` consecutive elements from the tensor's flat index `offset` on.
struct TensorSlice {
  std::string name;
  std::string part;
  std::vector<int64_t> global_shape;
  int64_t offset = 0;
  int64_t elements = 0;
  std::span<const std::byte> data;
  ElementType type = ElementType::f32;
  // Instead of `data`: asked for consecutive pieces (first byte, destination) while the slice is written.
  std::function<void(int64_t first, std::span<std::byte> out)> fill = {};
};

struct SequenceRange {
  int64_t first = 0, last = 0;  // [first, last) of global sequence indices
  bool operator==(const SequenceRange&) const = default;
};

// Everything about a step that is not a tensor. Scalars come back bit for bit, infinities and NaN included.
struct CheckpointState {
  int64_t step = 0;
  Lineage lineage;
  std::string config;                        // resolved config text, each value with its origin
  int64_t next_sequence = 0;                 // data position: the first global sequence not yet trained on
  std::vector<SequenceRange> skipped;        // data that the run was told to skip
  std::map<std::string, int64_t> counters;   // such as updates (Adam's t), skipped_steps, tokens
  std::map<std::string, double> scalars;     // such as the z-score state
  std::map<std::string, std::string> texts;  // anything else, such as the tokenizer's hash
};

// One rank of several.
struct CheckpointRank {
  int rank = 0;
  int world_size = 1;
};

// The ranks that save one step together, each its own slices, into a directory that all of them see.
struct SaveGroup {
  CheckpointRank rank;
  // Every rank's text, on every rank; blocks. Not needed by a rank alone.
  std::function<std::vector<std::string>(const std::string& text)> exchange;
};

// The checkpoints of one run directory. Saving is for one thread at a time.
class Checkpoints {
 public:
  // Of whole steps, keeps what `keep` says. `lineage` goes into the first save, and each save is the
  // parent of the next. `may_write` is asked by the first rank before it changes anything in the directory,
  // also from the thread that verifies; it throws where another job has taken the directory.
  Checkpoints(const Path& run, KeepRules keep, Lineage lineage = {}, std::function<void()> may_write = {});
  ~Checkpoints();                            // waits for the background verification
  Checkpoints(const Checkpoints&) = delete;  // one owner of the directory
  Checkpoints& operator=(const Checkpoints&) = delete;

  // Saves run/checkpoints/step-N and returns when it is durable; slices are read, not kept. SystemError (full
  // disk, read-only file system) leaves what was there before, and is thrown on all ranks where one of them
  // fails. Then the first rank verifies and prunes in the background. Files are written on up to `threads`
  // threads.
  void save(const CheckpointState& state, std::span<const TensorSlice> slices, const SaveGroup& group = {},
            int threads = 1);

  // The parts of a save, for whoever brings the ranks together in another way (save_behind.h). All ranks
  // together: the directory is there, and empty.
  void open(int64_t step, const SaveGroup& group);
  Path saving(int64_t step) const;  // where its files are written
  // The first rank alone, from any thread: the step is durable. `reports`: all ranks', by rank.
  void commit(const CheckpointState& state, std::span<const std::string> reports);
  // Every rank, once it is: the next save is its child; the first rank verifies and prunes in the background.
  void committed(int64_t step);
  // Every rank, where nothing comes of it: the first one removes the files in the background.
  void abandon(int64_t step);

  // Waits for the background verification of the last save. False where that found damage (logged, nothing
  // pruned).
  bool wait();

 private:
  void verify_and_prune(int64_t step);
  void remove_saving(int64_t step) const;
  bool is_ours() const noexcept;
  Path directory_;
  KeepRules keep_;
  Lineage lineage_;
  bool leads_ = true;  // of the step that was opened last
  std::string seal_;   // of the step that was committed last, where it leads
  std::function<void()> may_write_;
  std::atomic<bool> pruning_{false};  // the step saved before may still be read back, and older ones go
  bool verified_ = true;              // written by background_, read after it was joined
  BackgroundThread background_;
};

// Checkpoints(run, the newest `keep`).save(state, slices) and wait().
void save_checkpoint(const Path& run, const CheckpointState& state, std::span<const TensorSlice> slices,
                     int keep);

struct CheckpointTensor {
  std::string name, part;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  int64_t elements = 0;
  uint64_t hash = 0;  // additive, over all slices (core/base/tensor_hash.h)
};

enum class Verify : uint8_t {
  all,  // every file against its length and hash before the constructor returns
  // Manifest, file lengths and tensor headers; tensors are still checked as they are read. Of a run, where an
  // older step can stand in for a damaged one, all is checked all the same.
  headers,
};

// One step, opened. Tensors are hashed as they are read: once all elements of a tensor were read (in whatever
// pieces) and the sum is not the manifest's, read() throws a UserError naming the file.
class CheckpointReader {
 public:
  // `run_or_step` is a run directory (the newest step of its branch that verifies is taken; damaged ones and
  // those of a branch that the run has left are named in the log and passed over) or a step directory
  // (refused where it is damaged). UserError where there is nothing to load.
  explicit CheckpointReader(const Path& run_or_step, Verify verify = Verify::all);
  ~CheckpointReader();
  CheckpointReader(CheckpointReader&&) noexcept;

  const CheckpointState& state() const;
  CheckpointId id() const;
  const Path& directory() const;                         // of the step
  const std::vector<CheckpointTensor>& tensors() const;  // sorted by part, then name
  const CheckpointTensor* find(std::string_view name, std::string_view part) const;
  // UserError where the tensor is not there or has another shape.
  const CheckpointTensor& at(std::string_view name, std::string_view part) const;

  // Reads out.size() bytes, from element `offset` of the whole tensor on, whichever files hold them.
  void read(std::string_view name, std::string_view part, int64_t offset, std::span<std::byte> out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The run directory that a `--checkpoint` argument belongs to: itself, or the parent of checkpoints/step-N or
// checkpoints/aside-K/step-N where it has that form; else the argument itself.
Path run_of_checkpoint(const Path& run_or_step);
// Whether the argument is one checkpoint and not a run.
bool is_checkpoint(const Path& run_or_step);

// Steps under run/checkpoints, oldest first, by name alone.
std::vector<int64_t> checkpoint_steps(const Path& run);

}  // namespace toroid
