#include "tests/train/engine/cuda/gpus.h"

namespace toroid::train {
namespace {

::toroid::testing::stand_in::Machine machine_with(int gpus) {
  ::toroid::testing::stand_in::Machine machine;
  machine.gpus = gpus;
  machine.bytes = (int64_t{1} << 20) + gpus * kGpuBytes;  // the stand-in counts what all of them have
  return machine;
}

}  // namespace

StandInGpus::StandInGpus(int gpus) : cuda_(machine_with(gpus)) {}

Plugins cuda_plugins(int64_t bytes) {
  Plugins out;
  out.devices["CUDA"] = cuda_maker(bytes);
  return out;
}

std::unique_ptr<Device> gpu_of(World& world) {
  const DeviceMaker maker = cuda_maker(kGpuBytes);
  return maker.make(maker.kernels(1, Bf16Products::widened), &world);
}

std::unique_ptr<Device> gpu_alone() {
  return alone(cuda_maker(kGpuBytes), 1, Bf16Products::widened);
}

}  // namespace toroid::train
