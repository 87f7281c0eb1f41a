#include "train/loop/skip_watch.h"

#include <algorithm>

#include "core/base/error.h"

namespace toroid::train {
namespace {

std::string from_to(int64_t first, int64_t last) {
  return first == last ? " " + std::to_string(first)
                       : "s " + std::to_string(first) + " to " + std::to_string(last);
}

}  // namespace

void SkipWatch::resume(int64_t total, int64_t in_a_row) {
  total_ = total;
  in_a_row_ = in_a_row;
  row_.reset();
  stop_.reset();
}

void SkipWatch::see(int64_t step, bool skipped, SequenceRange taken) {
  if (!skipped) {
    in_a_row_ = 0;
    row_.reset();
    return;
  }
  ++total_;
  ++in_a_row_;
  if (!row_) row_ = Row{step, step, taken, 0};
  row_->last_step = step;
  row_->taken.last = taken.last;
  row_->count = in_a_row_;
  // The result of one more step may come in before the run ends; it belongs to them where it was skipped too.
  if (most_ > 0 && in_a_row_ >= most_) stop_ = row_;
}

std::string SkipWatch::what() const {
  require(stop_.has_value(), "there is a reason to stop");
  return std::to_string(stop_->count) + " steps in a row were skipped (optim.skip.max_consecutive); step" +
         from_to(stop_->first_step, stop_->last_step) + " took the global sequence" +
         from_to(stop_->taken.first, stop_->taken.last - 1);
}

std::string SkipWatch::reason(int64_t saved_step, int64_t saved_next) const {
  const std::string text = "training stopped: " + what();
  const int64_t first = std::max(stop_->taken.first, saved_step < 0 ? 0 : saved_next);
  const std::string skip = "--set 'data.skip+={ first: " + std::to_string(first) +
                           " last: " + std::to_string(stop_->taken.last) + " }'";
  if (saved_step < 0)
    return text + ". No checkpoint was saved; to start without them, add --again and " + skip;
  return text + ". The newest checkpoint is of step " + std::to_string(saved_step) +
         " and goes on at sequence " + std::to_string(saved_next) +
         "; to leave them out from there, resume it with " + skip;
}

}  // namespace toroid::train
