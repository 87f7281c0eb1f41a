// mpi_fault FAULT WAY: ranks that mpirun started sum arrays until rank 1 does something wrong. What the
// program prints and how it ends is what a training run would; faults_test.sh looks at it.
#include <csignal>
#include <iostream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/world.h"

namespace toroid {
namespace {

constexpr int kCulprit = 1;
constexpr Seconds kDeadline{2};

void reduce(Communicator& group, Device& device, int64_t elements, const std::string& tensor) {
  const Array array = device.array(DType::f32, {elements}, "test");
  std::vector<float> values(static_cast<size_t>(elements), 1.0f);
  device.write(array.tensor, std::as_bytes(std::span(values)));
  group.all_reduce(array.tensor, Combine::sum, Wire::exact, {tensor, "test", Phase::backward});
  device.read(array.tensor, std::as_writable_bytes(std::span(values)));
}

void train(World& world, const std::shared_ptr<cpu::TransferThread>& transfers, const std::string& fault,
           bool messages) {
  CpuDevice device(std::make_shared<KernelRegistry>(), transfers, world.pages());
  world.describe("data " + std::to_string(world.rank()) + ", model 0");
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  GroupOptions options;
  if (messages) options.way = schedule::Algorithm::bidirectional_ring;
  const auto group = world.group(device, Queue::reduce, "data", ranks, {1, world.size()}, options);
  for (int step = 0; step < 20; ++step) {
    const bool now = step == 10 && world.rank() == kCulprit;
    if (now && fault == "killed") (void)std::raise(SIGKILL);
    if (now && fault == "stopped") (void)std::raise(SIGSTOP);
    if (now && fault == "skips") continue;
    reduce(*group, device, now && fault == "size" ? 999 : 1000, "gradients " + std::to_string(step));
  }
}

int run(const std::string& fault, bool messages) {
  const auto transfers = std::make_shared<cpu::TransferThread>();
  const auto world = make_world(transfers, kDeadline);
  try {
    train(*world, transfers, fault, messages);
  } catch (const Error& error) {
    std::cerr << "toroid: rank " << world->rank() << ": " << error.what() << std::endl;
    world->abort(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return toroid::run(argv[1], std::string(argv[2]) == "messages");
}
