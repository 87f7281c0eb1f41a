#include "train/loop/roll_back.h"

#include <ranges>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/checkpoint/step_writer.h"

namespace toroid::train {

std::optional<int64_t> step_to_go_back_to(const Path& run, SequenceRange taken) {
  const std::vector<int64_t> steps = checkpoint_steps(run);
  std::optional<int64_t> newest;
  for (const int64_t step : std::views::reverse(steps)) {
    const Path directory = run / "checkpoints" / step_name(step);
    try {
      const CheckpointReader checkpoint(directory, Verify::all);
      const int64_t next = checkpoint.state().next_sequence;
      if (next <= taken.first) return step;
      if (next < taken.last && !newest) newest = step;
    } catch (const Error& error) {
      log::warn("{} is damaged and passed over: {}", printable(directory.string()), error.what());
    }
  }
  return newest;
}

}  // namespace toroid::train
