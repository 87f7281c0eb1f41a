// When a run's state is saved and how: at once, or behind the steps that follow.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "core/base/clock.h"
#include "train/checkpoint/save_behind.h"
#include "train/engine/engine.h"
#include "train/engine/staged_snapshot.h"

namespace toroid::train {

// What comes before a rank's slices are written, and once that is over, whichever way it ended: where faults
// are rehearsed.
struct SaveHooks {
  std::function<void(int64_t step, std::vector<TensorSlice>& slices)> before =
      [](int64_t, std::vector<TensorSlice>&) {};
  std::function<void()> after = [] {};
};

class Saver {
 public:
  // `engine` outlives this; on all ranks together. `may_write` as Checkpoints has it.
  Saver(Engine& engine, const config::RunConfig& run, const Path& directory, const Lineage& lineage,
        std::function<void()> may_write, SaveHooks hooks = {});
  ~Saver();
  Saver(const Saver&) = delete;  // threads work on it
  Saver& operator=(const Saver&) = delete;

  // Where the run stands without a save of this object's: at a checkpoint that it was resumed from.
  void begin_at(int64_t step, int64_t next_sequence);
  // The newest step that is saved, and the global sequence that it goes on at; -1: none.
  int64_t step() const { return step_; }
  int64_t next_sequence() const { return next_sequence_; }

  // On all ranks together. `state` is of the step that the device has done; its tensors and scalars are
  // added here. A save is under way for one step at a time: waits for another. `last`: none comes after it,
  // so that it is durable when this returns, and SystemError where it fails; else as the config has it.
  void save(CheckpointState state, bool last);
  // What the ranks tell each other with every step, and what they have told: hear() makes a save go on.
  double told() const { return behind_.told(); }
  void hear(std::span<const double> all);
  bool under_way() const { return behind_.under_way(); }
  // Until no save is under way.
  void finish();
  // finish(), and until the last save was read back. False where that found damage.
  bool wait();

 private:
  SaveGroup group() const;
  // True where it was taken over and goes on by itself.
  void begin(CheckpointState state);
  void save_now(const CheckpointState& state);
  void done(int64_t step, int64_t next_sequence, Seconds took, Seconds held_up);
  // A save has failed that is not the last one.
  void failed(int64_t step, std::string_view why);

  struct UnderWay {
    int64_t step = 0, next_sequence = 0;
    Stopwatch since;
    Seconds held_up{0};
  };
  Engine& engine_;
  config::CheckpointConfig config_;
  Path directory_;
  SaveHooks hooks_;
  int threads_;
  int64_t step_ = -1, next_sequence_ = 0;
  Checkpoints checkpoints_;
  std::optional<SnapshotMemory> memory_;
  std::optional<ByteRing> ring_;
  std::optional<UnderWay> under_way_;
  SaveBehind behind_;
};

}  // namespace toroid::train
