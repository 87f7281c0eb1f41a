// The program with the real libraries: it starts, and says what is wrong on a machine without a GPU.
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

TEST(CudaLink, a_device_starts_where_there_is_a_gpu) {
  if (cuda::gpu_count() == 0) GTEST_SKIP() << "no GPU here";
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  CudaDevice device(make_cuda_kernels(), options);
  device.synchronize(device.record(Queue::compute), Seconds(10));
}

}  // namespace
}  // namespace toroid
