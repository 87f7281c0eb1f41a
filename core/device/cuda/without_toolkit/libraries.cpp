// In place of what calls CUDA's libraries: a build without its toolkit makes no device that would.
#include "core/device/cuda/libraries.h"

namespace toroid::cuda {

void CublasProducts::multiply(cudaStream_t, const MatrixProduct&, std::byte*) {
  throw InternalError("cuBLASLt is called in a build without CUDA");
}

}  // namespace toroid::cuda
