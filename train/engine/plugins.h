// Everything that a config names and a program may extend, in one value: optimizers, schedules, kernels and
// the device that runs them.
// A program that has one more calls add() on the registry before it runs (docs/architecture.md, "where to add
// things").
#pragma once

#include <functional>
#include <memory>

#include "core/device/cpu/bf16_products.h"
#include "core/device/device.h"
#include "optim/optimizer.h"
#include "optim/schedule/registry.h"

namespace toroid::config {
class RunConfig;
}

namespace toroid::cpu {
class PageSource;
class TransferThread;
}  // namespace toroid::cpu

namespace toroid::train {

// What a rank's device shares with its peers; nothing where there are none.
struct DeviceLinks {
  std::shared_ptr<cpu::TransferThread> transfers = nullptr;
  std::shared_ptr<cpu::PageSource> pages = nullptr;
};

struct Plugins {
  optim::OptimizerRegistry optimizers = optim::builtin_optimizers();
  optim::ScheduleRegistry schedules = optim::builtin_schedules();
  // Kernels of a CPU with that many threads that multiplies bf16 operands so; replace to add an operator's
  // kernel.
  std::function<std::shared_ptr<DeviceKernels>(int threads, Bf16Products products)> cpu_kernels;
  // The device of a run, with those kernels; replace to run on another.
  std::function<std::unique_ptr<Device>(std::shared_ptr<const DeviceKernels> kernels,
                                        const DeviceLinks& links)>
      device;

  Plugins();

  // UserError where the config names an optimizer or a schedule that is not here, or gives one wrong
  // parameters.
  void check(const config::RunConfig& run) const;
  // A device alone, without peers.
  std::unique_ptr<Device> device_alone(int threads, Bf16Products products) const;
};

}  // namespace toroid::train
