// One training run from a checked config: the loop behind `toroid train`.
#pragma once

#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/base/error.h"
#include "core/base/io/file.h"
#include "train/engine/plugins.h"
#include "train/loop/step_orders.h"
#include "train/report/prediction.h"

namespace toroid::train {

struct TrainOptions {
  config::RunConfig config;  // resolved and validated
  std::string
      config_text;     // the same with the origin of every value: stored in the run and in each checkpoint
  Path out;            // run directory; empty with `resume`: the run that is resumed
  Path resume;         // a run (its newest checkpoint) or a step-N; empty: from step 0
  Path trace;          // where the steps of train.trace are recorded to; empty: nowhere
  bool again = false;  // replace the run that `out` holds
  bool allow_changes =
      false;             // resume although the config differs from the checkpoint's in what decides results
  bool dry_run = false;  // record the step on a device without memory and print it
  bool record = false;   // print the operators of a real step
  std::vector<std::string> warnings;         // of the config, for the first rank to print
  Predict predict;                           // asked when the run is over, where its ranks share one machine
  MakeStepOrders orders = orders_of_config;  // what the loop does next
};

// done, saved_on_signal or too_many_skips; everything else is thrown.
ExitCode run(const TrainOptions& options, const Plugins& plugins = Plugins());

}  // namespace toroid::train
