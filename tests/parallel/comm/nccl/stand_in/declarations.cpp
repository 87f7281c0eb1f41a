// What the stand-in declares is what NCCL has. Compiled with the stand-in's header and, where there is NCCL,
// with the real one: both must satisfy the same list.
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "tests/core/device/cuda/stand_in/expect_call.h"

namespace {

using Code = ncclResult_t;
EXPECT_CALL(ncclGetVersion, Code(int*));
EXPECT_CALL(ncclGetUniqueId, Code(ncclUniqueId*));
EXPECT_CALL(ncclCommInitRankConfig, Code(ncclComm_t*, int, ncclUniqueId, int, ncclConfig_t*));
EXPECT_CALL(ncclCommSplit, Code(ncclComm_t, int, int, ncclComm_t*, ncclConfig_t*));
EXPECT_CALL(ncclCommFinalize, Code(ncclComm_t));
EXPECT_CALL(ncclCommDestroy, Code(ncclComm_t));
EXPECT_CALL(ncclCommAbort, Code(ncclComm_t));
EXPECT_CALL(ncclCommGetAsyncError, Code(ncclComm_t, ncclResult_t*));
EXPECT_CALL(ncclCommRegister, Code(ncclComm_t, void*, size_t, void**));
EXPECT_CALL(ncclGetErrorString, const char*(Code));
EXPECT_CALL(ncclGetLastError, const char*(ncclComm_t));
EXPECT_CALL(ncclAllGather, Code(const void*, void*, size_t, ncclDataType_t, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclReduceScatter,
            Code(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclAllReduce,
            Code(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclBroadcast, Code(const void*, void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclSend, Code(const void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclRecv, Code(void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t));
EXPECT_CALL(ncclGroupStart, Code());
EXPECT_CALL(ncclGroupEnd, Code());

static_assert(std::is_same_v<ncclComm_t, struct ncclComm*>);
static_assert(sizeof(ncclUniqueId) == 128 && sizeof(ncclUniqueId::internal) == NCCL_UNIQUE_ID_BYTES);
static_assert(ncclSuccess == 0 && ncclUnhandledCudaError == 1 && ncclSystemError == 2 &&
              ncclInternalError == 3 && ncclInvalidArgument == 4 && ncclInvalidUsage == 5 &&
              ncclRemoteError == 6 && ncclInProgress == 7);
static_assert(ncclSum == 0 && ncclMax == 2);
static_assert(ncclUint8 == 1 && ncclInt32 == 2 && ncclInt64 == 4 && ncclFloat32 == 7 && ncclFloat64 == 8 &&
              ncclBfloat16 == 9);
static_assert(NCCL_SPLIT_NOCOLOR == -1 && NCCL_VERSION(2, 26, 2) == 22602);
static_assert(std::is_same_v<decltype(ncclConfig_t::blocking), int> &&
              std::is_same_v<decltype(ncclConfig_t::minCTAs), int> &&
              std::is_same_v<decltype(ncclConfig_t::maxCTAs), int> &&
              offsetof(ncclConfig_t, blocking) == 16 && offsetof(ncclConfig_t, minCTAs) == 24 &&
              offsetof(ncclConfig_t, maxCTAs) == 28);

}  // namespace
