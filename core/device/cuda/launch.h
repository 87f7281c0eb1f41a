// How a kernel is started. A kernel is a type with operator()(team, args), args a plain struct that is passed
// by value. Compiled for the host it is one function in the order of the stream, which runs team after team;
// CUDA's runtime is then a stand-in, whose own launch_on_host() takes it. What a launch returns is asked for
// by the device (cuda_device.cpp), once for all launches of a call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/base/error.h"
#include "core/device/cuda/team.h"
#include "core/op/op.h"

namespace toroid::cuda {

inline cudaStream_t stream_of(const LaunchContext& context) {
  return static_cast<cudaStream_t>(context.stream);
}

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
  if (teams == 0) return;
#ifdef __CUDACC__
  run_kernel<Kernel, kThreads><<<static_cast<unsigned>(teams), kThreads, 0, stream>>>(args);
#else
  (void)launch_on_host(stream, [args, teams] {
    for (int64_t i = 0; i < teams; ++i) {
      HostTeam<kThreads> team(i, teams);
      Kernel{}(team, args);
    }
  });
#endif
}

}  // namespace toroid::cuda
