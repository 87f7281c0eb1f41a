// NCCL's functions, each found when it is first called. Tests have a stand-in in this file's place.
#include <nccl.h>

#include "core/device/cuda/loaded_library.h"

namespace {

using toroid::cuda::forward;

const toroid::cuda::LoadedLibrary& library() {
  static const toroid::cuda::LoadedLibrary one("libnccl.so.2", {"NCCL_HOME", "CUDA_PATH", "CUDA_HOME"});
  return one;
}

template <auto* kFunction, class... Given>
ncclResult_t ask(const char* name, Given... given) {
  return forward<kFunction>(library(), name, ncclSystemError, given...);
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  return ask<ncclGetVersion>(__func__, version);
}
const char* ncclGetErrorString(ncclResult_t code) {
  return forward<ncclGetErrorString>(library(), __func__, "no NCCL", code);
}
const char* ncclGetLastError(ncclComm_t comm) {
  return forward<ncclGetLastError>(library(), __func__, "", comm);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  return ask<ncclGetUniqueId>(__func__, id);
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return ask<ncclCommInitRankConfig>(__func__, comm, ranks, id, rank, config);
}
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* out, ncclConfig_t* config) {
  return ask<ncclCommSplit>(__func__, comm, color, key, out, config);
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return ask<ncclCommFinalize>(__func__, comm);
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return ask<ncclCommDestroy>(__func__, comm);
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return ask<ncclCommAbort>(__func__, comm);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  return ask<ncclCommGetAsyncError>(__func__, comm, state);
}
ncclResult_t ncclCommRegister(ncclComm_t comm, void* buffer, size_t bytes, void** handle) {
  return ask<ncclCommRegister>(__func__, comm, buffer, bytes, handle);
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return ask<ncclAllGather>(__func__, in, out, count, type, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how,
                               ncclComm_t comm, cudaStream_t stream) {
  return ask<ncclReduceScatter>(__func__, in, out, count, type, how, comm, stream);
}
ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how,
                           ncclComm_t comm, cudaStream_t stream) {
  return ask<ncclAllReduce>(__func__, in, out, count, type, how, comm, stream);
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return ask<ncclBroadcast>(__func__, in, out, count, type, root, comm, stream);
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return ask<ncclSend>(__func__, from, count, type, peer, comm, stream);
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return ask<ncclRecv>(__func__, to, count, type, peer, comm, stream);
}
ncclResult_t ncclGroupStart() {
  return ask<ncclGroupStart>(__func__);
}
ncclResult_t ncclGroupEnd() {
  return ask<ncclGroupEnd>(__func__);
}
}
