// How a kernel is started. A kernel is a type with operator()(team, args), args a plain struct that is passed
// by value. Compiled for the host it is what kernels_on_host.h of the build makes of it: tests run it team
// after team, a build without CUDA wants its workspace alone and has none of it. What a launch returns is
// asked for by the device (cuda_device.cpp), once for all launches of a call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/device/cuda/team.h"
#include "core/op/op.h"

#ifndef __CUDACC__
#include <kernels_on_host.h>
#endif

namespace toroid::cuda {

inline cudaStream_t stream_of(const LaunchContext& context) {
  return static_cast<cudaStream_t>(context.stream);
}

// Memory that a kernel's team shares: Kernel::kSharedBytes, none where it says nothing.
template <class Kernel>
constexpr int shared_bytes() {
  if constexpr (requires { Kernel::kSharedBytes; }) {
    return Kernel::kSharedBytes;
  } else {
    return 0;
  }
}

// What a block may have beside its static arrays on the smallest of the GPUs that kernels are built for,
// sm_80: the 163 KiB of CUDA's programming guide.
inline constexpr int kMostSharedBytes = 163 << 10;

#ifdef __CUDACC__
template <class Kernel, int kThreads, class Args>
__global__ void __launch_bounds__(kThreads, 1) run_kernel(const __grid_constant__ Args args) {
  GpuTeam<kThreads> team;
  Kernel{}(team, args);
}
#endif

template <class Kernel, int kThreads, class Args>
void launch(cudaStream_t stream, int64_t teams, const Args& args) {
  require(teams >= 0 && teams < int64_t{1} << 31, "a kernel has fewer than 2^31 teams");
  static constexpr int kShared = shared_bytes<Kernel>();
  static_assert(kShared <= kMostSharedBytes);
  if (teams == 0) return;
#ifdef __CUDACC__
  const auto kernel = run_kernel<Kernel, kThreads, Args>;
  // More than 48 KiB are given to a kernel that asks.
  constexpr int kUnasked = 48 << 10;
  if constexpr (kShared > kUnasked) {
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared) ==
        cudaErrorInvalidValue) {
      (void)cudaGetLastError();  // it is told here
      throw UserError("a kernel shares " + std::to_string(kShared) +
                      " bytes among the threads of a block, which is more than this GPU has; use one with "
                      "166912 (A100, H100 and later ones of their kind), or heads of up to 128 elements");
    }
  }
  kernel<<<static_cast<unsigned>(teams), kThreads, kShared, stream>>>(args);
#else
  run_on_host<Kernel, kThreads, kShared>(stream, teams, args);
#endif
}

}  // namespace toroid::cuda
