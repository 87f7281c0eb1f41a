// The program with the real libraries: it starts, and says what is wrong on a machine without a GPU.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/gpus.h"

namespace toroid {
namespace {

TEST(CudaLink, a_machine_without_a_gpu_gets_a_sentence) {
  if (cuda::gpu_count() > 0) GTEST_SKIP() << "there is a GPU";
  try {
    const CudaDevice device(make_cuda_kernels(), {});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("device is CUDA"), std::string::npos) << error.what();
  }
}

// Whose functions are found when they are first called. A toolkit without its libraries has none.
TEST(CudaLink, cublas_is_the_version_that_this_is_built_with) {
  if (cublasLtGetVersion() == 0) GTEST_SKIP() << "no cuBLASLt here";
  EXPECT_EQ(cublasLtGetVersion() / 10000, CUBLAS_VER_MAJOR);
  EXPECT_STREQ(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
}

TEST(CudaLink, a_device_starts_where_there_is_a_gpu) {
  if (cuda::gpu_count() == 0) GTEST_SKIP() << "no GPU here";
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  CudaDevice device(make_cuda_kernels(), options);
  device.synchronize(device.record(Queue::compute), Seconds(10));
}

}  // namespace
}  // namespace toroid
