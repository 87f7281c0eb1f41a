// toroid launch --supervise: runs a job, and starts it again from its newest checkpoint until it is done or
// there is no use in it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/io/file.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/supervise/places.h"
#include "launch/toroid/supervise/policy.h"

namespace CLI {
class App;
}

namespace toroid::launch {

struct SuperviseFlags {
  bool on = false;
  RestartRules rules;  // but for the time before the first one
  double backoff_s = 1;
  double hang_after_s = 0;   // 0: 30 s more than ranks wait for each other
  double look_again_s = 60;  // between two looks for pods that are missing
  std::string check_host, pods_file;
};
void add_supervise_flags(CLI::App& app, SuperviseFlags& flags);
// UserError where one is out of bounds, or is set without --supervise.
void check_supervise_flags(const SuperviseFlags& flags);

struct Start {
  MpiJob job;
  std::vector<std::string> arguments;
};

// What is supervised.
struct Supervised {
  Path run;  // its directory
  int64_t pods = 1, chips_per_pod = 1;
  std::string hosts;      // that it may have; empty: this machine
  Seconds deadline{600};  // that ranks wait for each other
  bool again = false;     // the first start replaces a run
  // A start on so many pods and these hosts (empty: this machine): as the user asked, or going on with the
  // run. UserError where that many pods cannot train it.
  std::function<Start(int64_t pods, const std::string& hosts, bool goes_on)> start;
};

// The exit code of the last job, or 75 after a signal between two.
int supervise(const Supervised& what, const SuperviseFlags& flags);

}  // namespace toroid::launch
