// What kernels need beside a stream: CUDA's libraries, started once, which live as long as the device.
#pragma once

#include <memory>

#include "core/base/error.h"
#include "core/device/cuda/cublas.h"
#include "core/device/cuda/sdpa.h"
#include "core/op/op.h"

namespace toroid::cuda {

struct Libraries {
  // `fused`: with cuDNN, for attention.
  Libraries(int gpu, bool fused) : products(gpu), attention(fused ? std::make_unique<Sdpa>(gpu) : nullptr) {}
  CublasProducts products;
  std::unique_ptr<Sdpa> attention;
  bool misses_cudnn = false;  // a call came by that sdpa_rule.h would let it have
};

// Those of the device that runs the kernel.
inline Libraries& libraries_of(const LaunchContext& context) {
  require(context.libraries != nullptr, "a kernel of CUDA's libraries is run by a CUDA device");
  return *static_cast<Libraries*>(context.libraries);
}

}  // namespace toroid::cuda
