// Ranks that mpirun started, a process and a GPU of the stand-ins each.
//   nccl_mpi                  the contract of communicators
//   nccl_mpi FAULT nccl       sums arrays until rank 1 does something wrong; what the program prints and how
//   it
//                             ends is what a training run would, and faults_test.sh looks at it
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <numeric>

#include "core/device/cuda/cuda_kernels.h"
#include "tests/parallel/comm/contract.h"
#include "tests/parallel/comm/nccl/ranks.h"

namespace toroid::testing {
namespace {

// The first rank's deadline; the others wait longer, so that it is the first one's report that ends the job.
Seconds deadline_of_this_rank(bool faults) {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return faults ? Seconds(2) + Seconds(rank == nullptr ? 0 : std::atoi(rank)) : Seconds(60);
}

std::unique_ptr<CudaDevice> device_of(World& world) {
  CudaDevice::Options options;
  options.gpu = world.rank();
  options.bytes = kGpuBytes;
  options.staging_bytes = int64_t{1} << 20;
  auto device = std::make_unique<CudaDevice>(make_cuda_kernels(), options);
  NcclGroups::Options groups;
  groups.gpu = device->gpu();
  groups.memory = device->memory();
  groups.deadline = Seconds(30);
  world.carry_out_by(std::make_shared<NcclGroups>(world, groups));
  return device;
}

void reduce(Communicator& group, Device& device, int64_t elements, const std::string& tensor) {
  const Array array = device.array(DType::f32, {elements}, "test");
  std::vector<float> values(static_cast<size_t>(elements), 1.0f);
  device.write(array.tensor, std::as_bytes(std::span(values)));
  group.all_reduce(array.tensor, Combine::sum, Wire::exact, {tensor, "test", Phase::backward});
  device.read(array.tensor, std::as_writable_bytes(std::span(values)));
}

void train(World& world, const std::string& fault) {
  world.describe("data " + std::to_string(world.rank()) + ", model 0");
  const auto device = device_of(world);
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const auto group = world.group(*device, Queue::reduce, "data", ranks, {1, world.size()});
  for (int step = 0; step < 20; ++step) {
    const bool now = world.rank() == 1 && step == 10;
    if (now && fault == "killed") (void)std::raise(SIGKILL);
    if (now && fault == "stopped") (void)std::raise(SIGSTOP);
    if (now && fault == "skips") continue;
    reduce(*group, *device, now && fault == "size" ? 999 : 1000, "gradients " + std::to_string(step));
  }
}

int run_fault(const std::string& fault) {
  const auto world = make_world(deadline_of_this_rank(true));
  try {
    train(*world, fault);
  } catch (const Error& error) {
    std::cerr << "toroid: rank " << world->rank() << ": " << error.what() << std::endl;
    world->abort(error.code());
  }
  return 0;
}

World* job = nullptr;  // of the program, for its test

TEST(NcclProcesses, fulfil_the_contract) {
  const auto device = device_of(*job);
  check_operations(*job, *device, {});
  check_bf16_wire(*job, *device, Method::By::library);
  check_tree(*job, *device, std::nullopt);
  check_beside(*job, *device);
  check_many_groups(*job, *device);
}

int run_contract() {
  try {
    const auto world = make_world(deadline_of_this_rank(false));
    job = world.get();
    const int failed = RUN_ALL_TESTS();
    if (failed != 0) world->abort(ExitCode::internal_error);
    return failed;
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}

}  // namespace
}  // namespace toroid::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const toroid::testing::stand_in::Scope cuda(toroid::testing::machine_of(16));
  const toroid::testing::NcclScope nccl;
  return argc > 1 ? toroid::testing::run_fault(argv[1]) : toroid::testing::run_contract();
}
