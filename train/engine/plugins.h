// Everything that a config names and a program may extend, in one value: optimizers, schedules, kernels.
// A program that has one more calls add() on the registry before it runs (docs/architecture.md, "where to add
// things").
#pragma once

#include <functional>
#include <memory>

#include "core/device/cpu/bf16_products.h"
#include "core/op/op.h"
#include "optim/optimizer.h"
#include "optim/schedule/registry.h"

namespace toroid::config {
class RunConfig;
}

namespace toroid::train {

struct Plugins {
  optim::OptimizerRegistry optimizers = optim::builtin_optimizers();
  optim::ScheduleRegistry schedules = optim::builtin_schedules();
  // Kernels of a CPU with that many threads that multiplies bf16 operands so; replace to add an operator's
  // kernel.
  std::function<std::shared_ptr<KernelRegistry>(int threads, Bf16Products products)> cpu_kernels;

  Plugins();

  // UserError where the config names an optimizer or a schedule that is not here, or gives one wrong
  // parameters.
  void check(const config::RunConfig& run) const;
};

}  // namespace toroid::train
