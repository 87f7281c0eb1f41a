// A save that goes on while the run does. Each rank writes its part in a thread of its own; what ranks have
// to agree on, they tell each other as a number in the exchange that every step has anyway, so that this
// thread issues no collective.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/checkpoint/background_thread.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

// How a save has ended.
struct SaveEnd {
  int64_t step = 0;
  std::string failure;  // "": it is whole and durable; else why not, by the first rank that failed
};

class SaveBehind {
 public:
  // `checkpoints` outlives this.
  explicit SaveBehind(Checkpoints& checkpoints) : checkpoints_(checkpoints) {}
  ~SaveBehind();                           // gives a save up that is under way
  SaveBehind(const SaveBehind&) = delete;  // a thread works on it
  SaveBehind& operator=(const SaveBehind&) = delete;

  void hurry() { thread_.hurry(); }  // somebody waits for what is under way
  bool under_way() const { return stage_ != Stage::idle; }
  // Opens the step on all ranks together, and begins to write: `slices` are asked for their bytes from the
  // thread, in the order of parts_in_order(), and `on_failure` is called from it where it stops asking. None
  // is under way. SystemError as Checkpoints::save() has it.
  void begin(CheckpointState state, std::vector<TensorSlice> slices, const SaveGroup& group,
             std::function<void()> on_failure = {});

  // How far this rank is, for the others.
  double told() const { return told_.load(); }
  // All ranks' told(), by rank, the same on all of them; once for each such exchange. What is left of the
  // save follows from it; `group` is begin()'s. Blocks for one exchange of text where the parts are written,
  // or where the save has failed. Nothing as long as it is under way.
  std::optional<SaveEnd> hear(std::span<const double> all, const SaveGroup& group);

 private:
  enum class Stage : uint8_t { idle, writing, committing };
  // What told_ says.
  static constexpr double kNothing = 0, kWritten = 1, kCommitted = 2, kFailed = -1;

  void start(void (SaveBehind::*work)());
  void write();
  void commit();
  SaveEnd end(std::string failure);

  Checkpoints& checkpoints_;
  Stage stage_ = Stage::idle;
  CheckpointState state_;
  std::vector<TensorSlice> slices_;
  std::function<void()> on_failure_;
  CheckpointRank rank_;
  std::vector<std::string> reports_;  // of all ranks
  // Between the threads: written before told_, read after it.
  RankReport report_;
  std::string failure_;
  std::atomic<double> told_{kNothing};
  std::atomic<bool> given_up_{false};
  BackgroundThread thread_;
};

}  // namespace toroid
