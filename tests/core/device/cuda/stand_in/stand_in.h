// A stand-in for CUDA's runtime and libraries, linked by tests in place of them: a stream is a thread with a
// queue, an event the state of a stream when it was recorded, device memory a mapping that the host can be
// kept out of. Kernels are host functions on a stream (core/device/cuda/launch.h). A fault stays, as on a
// GPU. What a test says to it beside CUDA's calls:
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace toroid::testing::stand_in {

// The machine that is stood in for.
struct Machine {
  int gpus = 1, capability = 90;  // ten times the version
  int linked = 1 << 16;           // so many in a row reach each other's memory
  int driver = 13000, runtime = 13000;
  int64_t bytes = int64_t{1} << 30;
  std::string name = {};  // of each GPU; empty: the driver does not say
};

// Outside of any scope, as a whole program that is linked with the stand-in sees it: TOROID_STAND_IN_GPUS of
// them (8), each with TOROID_STAND_IN_GPU_MIB (2048) of memory. TOROID_STAND_IN_FAULT=CALL:COUNT:CODE[:RANK]
// is Scope::fail in such a program: on all ranks of mpirun's, or on that one.
Machine machine_of_environment();

// What is set here lasts until the end of the scope, of which there is one at a time; all devices of a test
// are made and end in it. Afterwards no fault is left.
class Scope {
 public:
  explicit Scope(const Machine& machine = Machine());
  ~Scope();
  Scope(const Scope&) = delete;  // of the process's one state
  Scope& operator=(const Scope&) = delete;

  // The `count`-th call of that name from now on, counted from 1, returns `code`: a cudaError_t, or what the
  // call's library has in its place. "kernel": the launch succeeds and its stream dies of it, as do all calls
  // after that.
  void fail(std::string_view call, int count, int code);
  // Every entry of a stream takes up to so long, at random.
  void delay(int microseconds, unsigned seed);
  // Entries run before their call returns, and device memory has no access rights while none does: a host
  // that touches it ends the process.
  void close_memory();
};

// For stand-ins of libraries. What this call of that name returns, as a test has it: 0, or its code.
int failure_of(std::string_view call);
// Whether a stream has died: no call succeeds after that.
bool gpu_died();
// Appends work to a stream, as a library of the device would.
void enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace toroid::testing::stand_in
