// cuBLASLt's functions, found in the library when they are first called: a program that is built with CUDA
// then starts on machines that have none of it, and says what is missing when a GPU is asked for. Tests have
// a stand-in in this file's place.
#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

// Where the system's loader looks, and where the build looks for a toolkit.
void* load_library() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  std::vector<std::string> places{name};
  for (const char* const variable : {"CUDA_PATH", "CUDA_HOME"}) {
    if (const char* const folder = std::getenv(variable); folder != nullptr)
      places.push_back(std::string(folder) + "/lib64/" + name);
  }
  places.push_back("/usr/local/cuda/lib64/" + name);
  for (const std::string& place : places) {
    if (void* const found = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL); found != nullptr) return found;
  }
  return nullptr;
}

void* loaded_library() {
  static void* const one = load_library();
  return one;
}

// The library's own function of that name; null where there is none.
template <auto* kFunction>
auto* function_of(const char* name) {
  static const auto function = reinterpret_cast<decltype(kFunction)>(
      loaded_library() == nullptr ? nullptr : ::dlsym(loaded_library(), name));
  return function;
}

template <auto* kFunction, class... Given>
cublasStatus_t forward(const char* name, Given... given) {
  auto* const function = function_of<kFunction>(name);
  return function == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : function(given...);
}

}  // namespace

extern "C" {

size_t CUBLASWINAPI cublasLtGetVersion() {
  auto* const function = function_of<cublasLtGetVersion>(__func__);
  return function == nullptr ? 0 : function();
}
const char* CUBLASWINAPI cublasLtGetStatusName(cublasStatus_t status) {
  auto* const function = function_of<cublasLtGetStatusName>(__func__);
  return function == nullptr ? "no cuBLASLt" : function(status);
}

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t* handle) {
  return forward<cublasLtCreate>(__func__, handle);
}
cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle) {
  return forward<cublasLtDestroy>(__func__, handle);
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                                       uint64_t rows, uint64_t columns, int64_t ld) {
  return forward<cublasLtMatrixLayoutCreate>(__func__, layout, type, rows, columns, ld);
}
cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return forward<cublasLtMatrixLayoutDestroy>(__func__, layout);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                                     cublasComputeType_t compute, cudaDataType_t scale) {
  return forward<cublasLtMatmulDescCreate>(__func__, operation, compute, scale);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return forward<cublasLtMatmulDescDestroy>(__func__, operation);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                           cublasLtMatmulDescAttributes_t attribute,
                                                           const void* value, size_t bytes) {
  return forward<cublasLtMatmulDescSetAttribute>(__func__, operation, attribute, value, bytes);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return forward<cublasLtMatmulPreferenceCreate>(__func__, preference);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return forward<cublasLtMatmulPreferenceDestroy>(__func__, preference);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
    size_t bytes) {
  return forward<cublasLtMatmulPreferenceSetAttribute>(__func__, preference, attribute, value, bytes);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                                           cublasLtMatmulDesc_t operation,
                                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                           cublasLtMatmulPreference_t preference, int wanted,
                                                           cublasLtMatmulHeuristicResult_t results[],
                                                           int* count) {
  return forward<cublasLtMatmulAlgoGetHeuristic>(__func__, handle, operation, a, b, c, d, preference, wanted,
                                                 results, count);
}
cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                           const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                                           const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                                           const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                                           cublasLtMatrixLayout_t d_layout,
                                           const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                                           size_t workspace_bytes, cudaStream_t stream) {
  return forward<cublasLtMatmul>(__func__, handle, operation, alpha, a, a_layout, b, b_layout, beta, c,
                                 c_layout, d, d_layout, algorithm, workspace, workspace_bytes, stream);
}
}
