// What the stand-in declares is what the runtime has. Compiled with the stand-in's header and, where there is
// a toolkit, with the real one: both must satisfy the same list.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

namespace {

// The real calls may have a linkage's attributes, and are compared by what they take and return.
template <class Expected, class Declared>
constexpr bool same(Declared) {
  return std::is_same_v<Expected*, Declared>;
}
#define EXPECT_CALL(name, ...) \
  static_assert(same<__VA_ARGS__>(static_cast<decltype(&(name))>(nullptr)), #name)

using Code = cudaError_t;
EXPECT_CALL(cudaGetErrorName, const char*(Code));
EXPECT_CALL(cudaGetErrorString, const char*(Code));
EXPECT_CALL(cudaGetLastError, Code());
EXPECT_CALL(cudaDriverGetVersion, Code(int*));
EXPECT_CALL(cudaRuntimeGetVersion, Code(int*));
EXPECT_CALL(cudaGetDeviceCount, Code(int*));
EXPECT_CALL(cudaDeviceGetAttribute, Code(int*, cudaDeviceAttr, int));
EXPECT_CALL(cudaSetDevice, Code(int));
EXPECT_CALL(cudaMemGetInfo, Code(size_t*, size_t*));
EXPECT_CALL(cudaFree, Code(void*));
EXPECT_CALL(cudaFreeHost, Code(void*));
EXPECT_CALL(cudaStreamCreateWithPriority, Code(cudaStream_t*, unsigned, int));
EXPECT_CALL(cudaStreamDestroy, Code(cudaStream_t));
EXPECT_CALL(cudaStreamSynchronize, Code(cudaStream_t));
EXPECT_CALL(cudaStreamWaitEvent, Code(cudaStream_t, cudaEvent_t, unsigned));
EXPECT_CALL(cudaEventDestroy, Code(cudaEvent_t));
EXPECT_CALL(cudaEventRecord, Code(cudaEvent_t, cudaStream_t));
EXPECT_CALL(cudaEventQuery, Code(cudaEvent_t));
EXPECT_CALL(cudaEventElapsedTime, Code(float*, cudaEvent_t, cudaEvent_t));
EXPECT_CALL(cudaMemcpyAsync, Code(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t));
// Overloaded in C++.
[[maybe_unused]] constexpr Code (*kMalloc)(void**, size_t) = &cudaMalloc;
[[maybe_unused]] constexpr Code (*kHostAlloc)(void**, size_t, unsigned) = &cudaHostAlloc;
[[maybe_unused]] constexpr Code (*kEventCreate)(cudaEvent_t*, unsigned) = &cudaEventCreateWithFlags;

static_assert(std::is_same_v<cudaStream_t, struct CUstream_st*> &&
              std::is_same_v<cudaEvent_t, struct CUevent_st*>);
static_assert(cudaSuccess == 0 && cudaErrorInvalidValue == 1 && cudaErrorMemoryAllocation == 2 &&
              cudaErrorInsufficientDriver == 35 && cudaErrorNoDevice == 100 &&
              cudaErrorInvalidDevice == 101 && cudaErrorNotReady == 600 && cudaErrorIllegalAddress == 700 &&
              cudaErrorLaunchFailure == 719);
static_assert(cudaMemcpyHostToDevice == 1 && cudaMemcpyDeviceToHost == 2 && cudaMemcpyDeviceToDevice == 3);
static_assert(cudaDevAttrComputeCapabilityMajor == 75 && cudaDevAttrComputeCapabilityMinor == 76);
static_assert(cudaEventDefault == 0 && cudaEventDisableTiming == 2 && cudaStreamNonBlocking == 1 &&
              cudaHostAllocDefault == 0);

}  // namespace
