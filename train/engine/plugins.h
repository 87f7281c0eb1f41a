// Everything that a config names and a program may extend, in one value: optimizers, schedules, objectives,
// and devices with their kernels. A program that has one more calls add() on the registry before it runs
// (docs/architecture.md, "where to add things").
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/device/cpu/bf16_products.h"
#include "core/device/device.h"
#include "optim/optimizer.h"
#include "optim/schedule/registry.h"
#include "train/engine/objectives.h"

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

// One kind of device.
struct DeviceMaker {
  // Its kernels, which share that many threads of the host and multiply bf16 operands so; replace to add an
  // operator's kernel.
  std::function<std::shared_ptr<DeviceKernels>(int threads, Bf16Products products)> kernels;
  // A device with those kernels.
  std::function<std::unique_ptr<Device>(std::shared_ptr<const DeviceKernels> kernels,
                                        const DeviceLinks& links)>
      make;
};

// A device without peers.
inline std::unique_ptr<Device> alone(const DeviceMaker& maker, int threads, Bf16Products products) {
  return maker.make(maker.kernels(threads, products), {});
}

struct Plugins {
  optim::OptimizerRegistry optimizers = optim::builtin_optimizers();
  optim::ScheduleRegistry schedules = optim::builtin_schedules();
  ObjectiveRegistry objectives = builtin_objectives();
  std::map<std::string, DeviceMaker, std::less<>> devices;  // by what the config's `device` is: "CPU"

  Plugins();

  // UserError where the config names an optimizer, a schedule or an objective that is not here, or
  // gives one wrong parameters.
  void check(const config::RunConfig& run) const;
  // What makes the device that the config names. UserError where it is not here.
  const DeviceMaker& device(const config::RunConfig& run) const;
  // This computer's processor.
  const DeviceMaker& cpu() const { return devices.at("CPU"); }
};

}  // namespace toroid::train
