// The real cuDNN's kernels for attention on an H200, made without one: it compiles for a GPU that it is told
// of, and a driver's place is taken by one that loads everything and runs nothing (deviceless_driver.c).
#include <gtest/gtest.h>

#include <string>

#include "core/device/cuda/cudnn_graph.h"
#include "core/device/cuda/sdpa_graph.h"
#include "core/device/cuda/sdpa_rule.h"
#include "tests/core/device/cuda/shaped_attention.h"

namespace toroid::cuda {
namespace {

const char* const kH200 =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,
"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,
"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":150754820096,
"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,
"driverVer":13000,"deviceName":"NVIDIA H200"})";

struct Case {
  const char* what;
  int64_t T, N, K, H, window = 0;
  double softcap = 0;
  bool documents = true;
  int64_t sequences = 1;  // whose lse a head has behind each other
};
const Case kCases[] = {
    {"Gemma 2B", 8192, 8, 1, 256, 0, 0, false, 2},
    {"Gemma 2B, documents", 8192, 8, 1, 256},
    {"Gemma 7B, documents", 8192, 16, 16, 256},
    {"Gemma 2 9B, documents", 8192, 16, 8, 256, 4096, 50},
    {"Gemma 3 4B, documents", 4096, 8, 4, 256, 1024},
    {"odd", 777, 6, 3, 104, 100, 30},
    {"short", 17, 2, 1, 16},
};

// As a call of it, of which sdpa_rule.h says how much memory its kernel may want.
int64_t foreseen(const Case& c, bool backward) {
  const testing::ShapedAttention calls(c.T, {1, c.N, c.K, c.H, 0.0625, c.window, c.softcap, c.documents});
  const Call& call = backward ? calls.backward : calls.forward;
  EXPECT_TRUE(sdpa_takes(call)) << c.what;
  return sdpa_workspace(call).kernel;
}

TEST(CudnnPlans, are_there_for_an_h200_and_keep_to_the_memory_that_is_foreseen) {
  if (cudnnGetVersion() == 0) GTEST_SKIP() << "no cuDNN here";
  const CudnnDescriptor gpu = describe_gpu(kH200);
  for (const Case& c : kCases) {
    for (const bool backward : {false, true}) {
      SCOPED_TRACE(std::string(c.what) + (backward ? ", backward" : ""));
      SdpaShape shape;
      shape.backward = backward;
      shape.T = c.T;
      shape.lse_stride = backward ? c.T : c.sequences * c.T;
      shape.N = c.N;
      shape.K = c.K;
      shape.H = c.H;
      const int64_t qkv = (c.N + 2 * c.K) * c.H, o = c.N * c.H;
      shape.strides = {qkv, qkv, qkv, o, o, qkv, qkv, qkv};
      shape.scale = 0.0625;
      shape.softcap = c.softcap;
      shape.window = c.window;
      shape.documents = c.documents;
      const CudnnPlan plan(sdpa_graph(shape).graph, {.description = &gpu});
      EXPECT_FALSE(plan.may_vary());
      EXPECT_LE(plan.workspace_bytes(), foreseen(c, backward));
      EXPECT_GE(plan.workspace_bytes(), foreseen(c, backward) - 256) << "more is foreseen than is wanted";
    }
  }
}

}  // namespace
}  // namespace toroid::cuda
