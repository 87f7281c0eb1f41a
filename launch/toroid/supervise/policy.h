// Whether a job that has ended is started again, and when.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/clock.h"

namespace toroid::launch {

struct RestartRules {
  int without_progress = 3;  // restarts in a row that got no further than the one before
  int in_all = 0;            // restarts of one supervision; 0: no limit
  Seconds first{1};          // waited before the first restart without progress, twice as long each time
  Seconds longest{300};
};

// What the exit code of a job means, in a few words: "a deadline expired or a peer was lost".
std::string meaning_of(int code);

class RestartPolicy {
 public:
  explicit RestartPolicy(RestartRules rules) : rules_(rules) {}

  struct Decision {
    bool again = false;
    Seconds delay{0};
    std::string why;  // it is not started again
  };
  // A job has ended with an exit code of docs/exit_codes.md. `waits`: it ended since another one has the run.
  // `saved`: it has left a later step than any start went on from.
  Decision ended(int code, bool waits, bool saved) const;
  // Only a later checkpoint that verifies keeps it from being given up now.
  bool exhausted() const { return idle_ >= rules_.without_progress; }
  // The job is started again, and goes on from that step; 0: from the beginning.
  void resumes(int64_t step);
  // It is, and nothing is known yet: until resumes() says more, that counts as no progress.
  void starts();

  int restarts() const { return restarts_; }
  int64_t best() const { return best_; }

 private:
  RestartRules rules_;
  int restarts_ = 0;  // in all
  int idle_ = 0;      // in a row without progress
  int64_t best_ = 0;  // the latest step that a start went on from
};

}  // namespace toroid::launch
