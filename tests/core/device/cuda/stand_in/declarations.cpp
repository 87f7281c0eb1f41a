// What the stand-in declares is what the runtime and cuBLASLt have. Compiled with the stand-in's headers and,
// where there is a toolkit, with the real ones: both must satisfy the same list.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

#include "tests/core/device/cuda/stand_in/expect_call.h"

namespace {

using Code = cudaError_t;
EXPECT_CALL(cudaGetErrorName, const char*(Code));
EXPECT_CALL(cudaGetErrorString, const char*(Code));
EXPECT_CALL(cudaGetLastError, Code());
EXPECT_CALL(cudaDriverGetVersion, Code(int*));
EXPECT_CALL(cudaRuntimeGetVersion, Code(int*));
EXPECT_CALL(cudaGetDeviceCount, Code(int*));
EXPECT_CALL(cudaDeviceGetAttribute, Code(int*, cudaDeviceAttr, int));
EXPECT_CALL(cudaDeviceCanAccessPeer, Code(int*, int, int));
EXPECT_CALL(cudaDeviceGetPCIBusId, Code(char*, int, int));
EXPECT_CALL(cudaGetDriverEntryPointByVersion,
            Code(const char*, void**, unsigned, unsigned long long, cudaDriverEntryPointQueryResult*));
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
EXPECT_CALL(cudaMemcpy2DAsync,
            Code(void*, size_t, const void*, size_t, size_t, size_t, cudaMemcpyKind, cudaStream_t));
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
static_assert(cudaDriverEntryPointSuccess == 0 && cudaDriverEntryPointSymbolNotFound == 1);
static_assert(cudaMemcpyHostToDevice == 1 && cudaMemcpyDeviceToHost == 2 && cudaMemcpyDeviceToDevice == 3);
static_assert(cudaDevAttrMultiProcessorCount == 16 && cudaDevAttrComputeCapabilityMajor == 75 &&
              cudaDevAttrComputeCapabilityMinor == 76);
static_assert(cudaEventDefault == 0 && cudaEventDisableTiming == 2 && cudaStreamNonBlocking == 1 &&
              cudaHostAllocDefault == 0);

using Status = cublasStatus_t;
EXPECT_CALL(cublasLtGetVersion, size_t());
EXPECT_CALL(cublasLtGetStatusName, const char*(Status));
EXPECT_CALL(cublasLtCreate, Status(cublasLtHandle_t*));
EXPECT_CALL(cublasLtDestroy, Status(cublasLtHandle_t));
EXPECT_CALL(cublasLtMatrixLayoutCreate,
            Status(cublasLtMatrixLayout_t*, cudaDataType, uint64_t, uint64_t, int64_t));
EXPECT_CALL(cublasLtMatrixLayoutDestroy, Status(cublasLtMatrixLayout_t));
EXPECT_CALL(cublasLtMatmulDescCreate, Status(cublasLtMatmulDesc_t*, cublasComputeType_t, cudaDataType_t));
EXPECT_CALL(cublasLtMatmulDescDestroy, Status(cublasLtMatmulDesc_t));
EXPECT_CALL(cublasLtMatmulDescSetAttribute,
            Status(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void*, size_t));
EXPECT_CALL(cublasLtMatmulPreferenceCreate, Status(cublasLtMatmulPreference_t*));
EXPECT_CALL(cublasLtMatmulPreferenceDestroy, Status(cublasLtMatmulPreference_t));
EXPECT_CALL(cublasLtMatmulPreferenceSetAttribute,
            Status(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void*, size_t));
EXPECT_CALL(cublasLtMatmulAlgoGetHeuristic,
            Status(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                   cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
                   cublasLtMatmulHeuristicResult_t*, int*));
EXPECT_CALL(cublasLtMatmul,
            Status(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*, cublasLtMatrixLayout_t,
                   const void*, cublasLtMatrixLayout_t, const void*, const void*, cublasLtMatrixLayout_t,
                   void*, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t));

static_assert(std::is_same_v<cublasLtHandle_t, struct cublasLtContext*>);
static_assert(sizeof(cublasLtMatrixLayoutOpaque_t) == 64 && sizeof(cublasLtMatmulDescOpaque_t) == 256 &&
              sizeof(cublasLtMatmulPreferenceOpaque_t) == 64 && sizeof(cublasLtMatmulAlgo_t) == 64);
using Found = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(Found) == 96 && offsetof(Found, algo) == 0 && offsetof(Found, workspaceSize) == 64 &&
              offsetof(Found, state) == 72 && offsetof(Found, wavesCount) == 76);
static_assert(CUBLAS_VER_MAJOR == 13);
static_assert(CUDA_R_32F == 0 && CUDA_R_16BF == 14 && CUBLAS_OP_N == 0 && CUBLAS_OP_T == 1 &&
              CUBLAS_COMPUTE_32F == 68);
static_assert(CUBLAS_STATUS_SUCCESS == 0 && CUBLAS_STATUS_NOT_INITIALIZED == 1 &&
              CUBLAS_STATUS_ALLOC_FAILED == 3 && CUBLAS_STATUS_INVALID_VALUE == 7 &&
              CUBLAS_STATUS_EXECUTION_FAILED == 13 && CUBLAS_STATUS_INTERNAL_ERROR == 14 &&
              CUBLAS_STATUS_NOT_SUPPORTED == 15);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLASLT_MATMUL_DESC_TRANSB == 4);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1 &&
              CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES == 6 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES == 7 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8);
static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0 && CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE == 2 &&
              CUBLASLT_REDUCTION_SCHEME_MASK == 7);

}  // namespace
