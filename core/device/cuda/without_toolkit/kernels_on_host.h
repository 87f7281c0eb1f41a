// A build without CUDA's toolkit knows of a kernel what memory it takes, and has none of its code.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/base/error.h"

namespace toroid::cuda {

template <class Kernel, int kThreads, int kShared, class Args>
[[noreturn]] void run_on_host(cudaStream_t, int64_t, const Args&) {
  throw InternalError("a kernel of a GPU is launched in a build without CUDA");
}

}  // namespace toroid::cuda
