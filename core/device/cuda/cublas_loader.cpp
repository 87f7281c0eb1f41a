// cuBLASLt's functions, each found when it is first called. Tests have a stand-in in this file's place.
#include <cublasLt.h>

#include <string>

#include "core/device/cuda/loaded_library.h"

namespace {

using toroid::cuda::forward;

const toroid::cuda::LoadedLibrary& library() {
  static const toroid::cuda::LoadedLibrary one("libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR),
                                               {"CUDA_PATH", "CUDA_HOME"});
  return one;
}

template <auto* kFunction, class... Given>
cublasStatus_t ask(const char* name, Given... given) {
  return forward<kFunction>(library(), name, CUBLAS_STATUS_NOT_INITIALIZED, given...);
}

}  // namespace

extern "C" {

size_t CUBLASWINAPI cublasLtGetVersion() {
  return forward<cublasLtGetVersion>(library(), __func__, size_t{0});
}
const char* CUBLASWINAPI cublasLtGetStatusName(cublasStatus_t status) {
  return forward<cublasLtGetStatusName>(library(), __func__, "no cuBLASLt", status);
}

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t* handle) {
  return ask<cublasLtCreate>(__func__, handle);
}
cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle) {
  return ask<cublasLtDestroy>(__func__, handle);
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                                       uint64_t rows, uint64_t columns, int64_t ld) {
  return ask<cublasLtMatrixLayoutCreate>(__func__, layout, type, rows, columns, ld);
}
cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return ask<cublasLtMatrixLayoutDestroy>(__func__, layout);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                                     cublasComputeType_t compute, cudaDataType_t scale) {
  return ask<cublasLtMatmulDescCreate>(__func__, operation, compute, scale);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return ask<cublasLtMatmulDescDestroy>(__func__, operation);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                           cublasLtMatmulDescAttributes_t attribute,
                                                           const void* value, size_t bytes) {
  return ask<cublasLtMatmulDescSetAttribute>(__func__, operation, attribute, value, bytes);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return ask<cublasLtMatmulPreferenceCreate>(__func__, preference);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return ask<cublasLtMatmulPreferenceDestroy>(__func__, preference);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
    size_t bytes) {
  return ask<cublasLtMatmulPreferenceSetAttribute>(__func__, preference, attribute, value, bytes);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                                           cublasLtMatmulDesc_t operation,
                                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                           cublasLtMatmulPreference_t preference, int wanted,
                                                           cublasLtMatmulHeuristicResult_t results[],
                                                           int* count) {
  return ask<cublasLtMatmulAlgoGetHeuristic>(__func__, handle, operation, a, b, c, d, preference, wanted,
                                             results, count);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                           const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                                           const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                                           const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                                           cublasLtMatrixLayout_t d_layout,
                                           const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                                           size_t workspace_bytes, cudaStream_t stream) {
  return ask<cublasLtMatmul>(__func__, handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout,
                             d, d_layout, algorithm, workspace, workspace_bytes, stream);
}
}
