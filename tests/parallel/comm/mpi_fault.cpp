// mpi_fault FAULT WAY [RANK]...: ranks that mpirun started sum arrays until these (1 if none is named) do
// something wrong. What the program prints and how it ends is what a training run would; faults_test.sh and
// hosts_test.sh look at it.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/world.h"

namespace toroid {
namespace {

// The first rank's deadline; the others wait longer, so that it is the first one's report that ends the job.
constexpr Seconds kDeadline{2};

Seconds deadline_of_this_rank() {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return kDeadline + Seconds(rank == nullptr ? 0 : std::atoi(rank));
}

void reduce(Communicator& group, Device& device, int64_t elements, const std::string& tensor) {
  const Array array = device.array(DType::f32, {elements}, "test");
  std::vector<float> values(static_cast<size_t>(elements), 1.0f);
  device.write(array.tensor, std::as_bytes(std::span(values)));
  group.all_reduce(array.tensor, Combine::sum, Wire::exact, {tensor, "test", Phase::backward});
  device.read(array.tensor, std::as_writable_bytes(std::span(values)));
}

void train(World& world, const std::string& fault, bool messages, bool culprit) {
  CpuDevice device(std::make_shared<DeviceKernels>(), world.transfers(), world.pages());
  world.describe("data " + std::to_string(world.rank()) + ", model 0");
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  GroupOptions options;
  if (messages) options.method = schedule::Algorithm::bidirectional_ring;
  const auto group = world.group(device, Queue::reduce, "data", ranks, {1, world.size()}, options);
  for (int step = 0; step < 20; ++step) {
    const bool now = culprit && step == 10;
    if (now && fault == "killed") (void)std::raise(SIGKILL);
    if (now && fault == "stopped") (void)std::raise(SIGSTOP);
    if (now && fault == "skips") continue;
    reduce(*group, device, now && fault == "size" ? 999 : 1000, "gradients " + std::to_string(step));
  }
}

int run(const std::string& fault, bool messages, const std::vector<int>& culprits) {
  const auto world = make_world(deadline_of_this_rank());
  try {
    train(*world, fault, messages,
          std::find(culprits.begin(), culprits.end(), world->rank()) != culprits.end());
  } catch (const Error& error) {
    std::cerr << "toroid: rank " << world->rank() << ": " << error.what() << std::endl;
    world->abort(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::vector<int> culprits;
  for (int i = 3; i < argc; ++i) culprits.push_back(std::stoi(argv[i]));
  if (culprits.empty()) culprits = {1};
  return toroid::run(argv[1], std::string(argv[2]) == "messages", culprits);
}
