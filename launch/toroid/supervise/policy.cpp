#include "launch/toroid/supervise/policy.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace toroid::launch {

std::string meaning_of(int code) {
  switch (code) {
    case static_cast<int>(ExitCode::done):
      return "done";
    case static_cast<int>(ExitCode::internal_error):
      return "a rank crashed or met a bug";
    case static_cast<int>(ExitCode::bad_input):
      return "bad input";
    case static_cast<int>(ExitCode::system_error):
      return "the system failed";
    case static_cast<int>(ExitCode::saved_on_signal):
      return "saved on a signal";
    case static_cast<int>(ExitCode::lost_peer):
      return "a deadline expired or a peer was lost";
    case static_cast<int>(ExitCode::too_many_skips):
      return "too many skipped steps";
    case static_cast<int>(ExitCode::corrupted):
      return "silent corruption was found";
    default:
      return code > 128 ? "ended by signal " + std::to_string(code - 128) : "unknown";
  }
}

RestartPolicy::Decision RestartPolicy::ended(int code, bool waits, bool saved) const {
  switch (code) {
    case static_cast<int>(ExitCode::done):
      return {};
    case static_cast<int>(ExitCode::bad_input):
      if (waits && restarts_ > 0) break;
      return {false, Seconds(0), "what is wrong with the input stays wrong"};
    case static_cast<int>(ExitCode::too_many_skips):
      return {false, Seconds(0), "the training stopped itself"};
    default:
      break;
  }
  if (rules_.in_all > 0 && restarts_ >= rules_.in_all) {
    return {false, Seconds(0),
            "it was started again " + std::to_string(restarts_) + " times, as often as asked"};
  }
  if (exhausted()) {
    return {false, Seconds(0),
            std::to_string(idle_) + " restarts in a row got no further than step " + std::to_string(best_)};
  }
  if (code == static_cast<int>(ExitCode::saved_on_signal)) return {true, Seconds(0), ""};
  const double doubled = saved ? 1 : std::pow(2.0, std::min(idle_, 30));
  const Seconds delay = std::min(rules_.longest, rules_.first * doubled);
  // A lost host's lock is free a minute later.
  return {true, waits ? std::max(delay, std::min(rules_.longest, Seconds(20))) : delay, ""};
}

void RestartPolicy::starts() {
  ++restarts_;
  ++idle_;
}

void RestartPolicy::resumes(int64_t step) {
  if (step <= best_) return;
  best_ = step;
  idle_ = 0;
}

}  // namespace toroid::launch
