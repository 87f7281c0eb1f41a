#include "train/checkpoint/save_behind.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/base/error.h"
#include "train/checkpoint/report_text.h"

namespace toroid {

SaveBehind::~SaveBehind() {
  given_up_ = true;
  thread_.join();
}

void SaveBehind::start(void (SaveBehind::*work)()) {
  thread_.start([this, work] {
    try {
      (this->*work)();
    } catch (const std::exception& error) {
      failure_ = error.what();
      told_ = kFailed;
      if (on_failure_) on_failure_();
    }
  });
}

void SaveBehind::begin(CheckpointState state, std::vector<TensorSlice> slices, const SaveGroup& group,
                       std::function<void()> on_failure) {
  require(!under_way(), "one save is under way at a time");
  checkpoints_.open(state.step, group);
  state_ = std::move(state);
  slices_ = std::move(slices);
  rank_ = group.rank;
  on_failure_ = std::move(on_failure);
  for (TensorSlice& slice : slices_) {
    if (!slice.fill) continue;
    slice.fill = [this, fill = std::move(slice.fill)](int64_t first, std::span<std::byte> out) {
      if (given_up_) throw SystemError("the save was given up");
      fill(first, out);
    };
  }
  failure_.clear();
  given_up_ = false;
  told_ = kNothing;
  stage_ = Stage::writing;
  start(&SaveBehind::write);
}

void SaveBehind::write() {
  report_ = write_rank(checkpoints_.saving(state_.step), rank_, state_.step, slices_);
  told_ = kWritten;
}

void SaveBehind::commit() {
  checkpoints_.commit(state_, reports_);
  told_ = kCommitted;
}

std::optional<SaveEnd> SaveBehind::hear(std::span<const double> all, const SaveGroup& group) {
  if (!under_way()) return std::nullopt;
  if (std::any_of(all.begin(), all.end(), [](double told) { return told == kFailed; })) {
    if (thread_.joinable() && told_ == kFailed) thread_.join();
    const bool failed_here = !thread_.joinable();
    const auto why = group.rank.world_size == 1 ? std::vector<std::string>{failure_}
                                                : group.exchange(failed_here ? failure_ : "");
    for (size_t rank = 0; rank < why.size(); ++rank) {
      if (!why[rank].empty()) return end(could_not_save(static_cast<int>(rank), why[rank]));
    }
    return end("a rank could not save its part of the checkpoint");
  }
  if (stage_ == Stage::writing &&
      std::all_of(all.begin(), all.end(), [](double told) { return told == kWritten; })) {
    thread_.join();
    const std::string report = report_text(report_);
    reports_ = group.rank.world_size == 1 ? std::vector<std::string>{report} : group.exchange(report);
    stage_ = Stage::committing;
    if (rank_.rank == 0) start(&SaveBehind::commit);
    return std::nullopt;
  }
  if (stage_ == Stage::committing && all[0] == kCommitted) return end("");
  return std::nullopt;
}

SaveEnd SaveBehind::end(std::string failure) {
  given_up_ = true;  // what is still written here comes to nothing
  thread_.join();
  stage_ = Stage::idle;
  slices_.clear();
  reports_.clear();
  if (failure.empty()) {
    checkpoints_.committed(state_.step);
  } else {
    checkpoints_.abandon(state_.step);
  }
  return {state_.step, std::move(failure)};
}

}  // namespace toroid
