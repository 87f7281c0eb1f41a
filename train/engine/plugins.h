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

namespace toroid {
class DeviceGroups;
class World;
}  // namespace toroid

namespace toroid::train {

// One kind of device.
struct DeviceMaker {
  // Its kernels, which share that many threads of the host and multiply bf16 operands so; replace to add an
  // operator's kernel.
  std::function<std::shared_ptr<DeviceKernels>(int threads, Bf16Products products)> kernels;
  // The device of this rank of `world`, with those kernels; nullptr: of a process without peers. Where a
  // library of the device carries out its collectives, the world is told so.
  std::function<std::unique_ptr<Device>(std::shared_ptr<const DeviceKernels> kernels, World* world)> make;
  // The groups that a recorder in its place makes; none: the world's own.
  std::function<std::shared_ptr<DeviceGroups>()> recorded_groups = {};
};

// A device without peers.
inline std::unique_ptr<Device> alone(const DeviceMaker& maker, int threads, Bf16Products products) {
  return maker.make(maker.kernels(threads, products), nullptr);
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
