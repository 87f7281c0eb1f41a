// What the loop is told to do, step by step. The default follows from the config; a run whose ranks come and
// go has a source of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "configs/run.pb.h"
#include "train/config/batch_plan.h"
#include "train/step/deal.h"

namespace toroid::train {

// The same on all ranks, but for the deal: validate, save, stop, as far as they are set, and else issue the
// step.
struct StepOrder {
  int64_t step = 0;  // as many have been issued before
  bool validate = false, save = false, stop = false;
  int64_t sequences = 0;  // of the step, on all ranks
  Deal deal;              // of them, to this rank
};

class StepOrders {
 public:
  virtual ~StepOrders() = default;
  // `signal`: the largest that a rank is known to have received; 0: none. The same on all ranks.
  virtual StepOrder next(int signal) = 0;
};

// Makes a rank's, from the step that is the first.
using MakeStepOrders = std::function<std::unique_ptr<StepOrders>(const config::RunConfig& run,
                                                                 const Dealer& dealer, int64_t first_step)>;

// All steps of the run by its batch plan, with what the config has every so many steps; a signal saves and
// stops.
std::unique_ptr<StepOrders> orders_of_config(const config::RunConfig& run, const Dealer& dealer,
                                             int64_t first_step);

}  // namespace toroid::train
