// What every device is held to on a case (golden/README.md has the bounds): hidden states, logits, loss,
// gradients, eight training steps.
#pragma once

#include <memory>
#include <string>

#include "core/comm/communicator.h"
#include "tests/golden/golden_case.h"

namespace toroid::golden {

// A suite is this with a device, and a list of those checks that it makes.
class GoldenFixture : public ::testing::TestWithParam<Path> {
 protected:
  explicit GoldenFixture(std::unique_ptr<Device> device);
  ~GoldenFixture() override;

  std::unique_ptr<train::StepProgram> program(const train::StepOptions& options);
  void forward_pass(train::StepProgram& program);
  // Eight steps; losses, gradients of the first, norms, final weights.
  void training(const train::StepOptions& options);
  // Our bf16 against fp32, beside PyTorch's bf16 against fp32.
  void bf16_training();
  // In fp32.
  train::StepOptions fp32(int64_t sequences_per_replica) const;

  Case golden_;
  std::unique_ptr<Device> owner_;
  Device& device_;
  std::unique_ptr<Communicator> alone_;
};

}  // namespace toroid::golden
