// A kernel that is compiled for the host: one function in the order of the stream, which runs team after
// team.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/device/cuda/team.h"

namespace toroid::cuda {

struct alignas(128) SharedLine {
  std::byte of[128];
};

template <class Kernel, int kThreads, int kShared, class Args>
void run_on_host(cudaStream_t stream, int64_t teams, const Args& args) {
  (void)launch_on_host(stream, [args, teams] {
    // What a team leaves there is no other's: all bits set, so that a float read before it is written is NaN.
    std::vector<SharedLine> shared((kShared + sizeof(SharedLine) - 1) / sizeof(SharedLine));
    for (int64_t i = 0; i < teams; ++i) {
      if (kShared > 0) std::memset(shared.data(), 0xff, shared.size() * sizeof(SharedLine));
      HostTeam<kThreads> team(i, teams, reinterpret_cast<std::byte*>(shared.data()));
      Kernel{}(team, args);
    }
  });
}

}  // namespace toroid::cuda
