// cuDNN's functions, each found when it is first called. Tests have a stand-in in this file's place.
#include <cudnn.h>

#include <string>

#include "core/device/cuda/loaded_library.h"

namespace {

using toroid::cuda::forward;

const toroid::cuda::LoadedLibrary& cudnn_library() {
  static const toroid::cuda::LoadedLibrary one("libcudnn.so." + std::to_string(CUDNN_MAJOR),
                                               {"CUDNN_HOME", "CUDA_PATH", "CUDA_HOME"});
  return one;
}

template <auto* kFunction, class... Given>
cudnnStatus_t ask_cudnn(const char* name, Given... given) {
  return forward<kFunction>(cudnn_library(), name, CUDNN_STATUS_NOT_INITIALIZED, given...);
}

}  // namespace

extern "C" {

size_t CUDNNWINAPI cudnnGetVersion() {
  return forward<cudnnGetVersion>(cudnn_library(), __func__, size_t{0});
}
const char* CUDNNWINAPI cudnnGetErrorString(cudnnStatus_t status) {
  return forward<cudnnGetErrorString>(cudnn_library(), __func__, "no cuDNN", status);
}
void CUDNNWINAPI cudnnGetLastErrorString(char* message, size_t bytes) {
  static const auto function = reinterpret_cast<decltype(&cudnnGetLastErrorString)>(
      cudnn_library().function("cudnnGetLastErrorString"));
  if (function != nullptr) function(message, bytes);
}

cudnnStatus_t CUDNNWINAPI cudnnCreate(cudnnHandle_t* handle) {
  return ask_cudnn<cudnnCreate>(__func__, handle);
}
cudnnStatus_t CUDNNWINAPI cudnnDestroy(cudnnHandle_t handle) {
  return ask_cudnn<cudnnDestroy>(__func__, handle);
}
cudnnStatus_t CUDNNWINAPI cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return ask_cudnn<cudnnSetStream>(__func__, handle, stream);
}

cudnnStatus_t CUDNNWINAPI cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                       cudnnBackendDescriptor_t* descriptor) {
  return ask_cudnn<cudnnBackendCreateDescriptor>(__func__, type, descriptor);
}
cudnnStatus_t CUDNNWINAPI cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  return ask_cudnn<cudnnBackendDestroyDescriptor>(__func__, descriptor);
}
cudnnStatus_t CUDNNWINAPI cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                                   cudnnBackendAttributeName_t name,
                                                   cudnnBackendAttributeType_t type, int64_t count,
                                                   const void* values) {
  return ask_cudnn<cudnnBackendSetAttribute>(__func__, descriptor, name, type, count, values);
}
cudnnStatus_t CUDNNWINAPI cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor,
                                                   cudnnBackendAttributeName_t name,
                                                   cudnnBackendAttributeType_t type, int64_t wanted,
                                                   int64_t* count, void* values) {
  return ask_cudnn<cudnnBackendGetAttribute>(__func__, descriptor, name, type, wanted, count, values);
}
cudnnStatus_t CUDNNWINAPI cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return ask_cudnn<cudnnBackendFinalize>(__func__, descriptor);
}
cudnnStatus_t CUDNNWINAPI cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                              cudnnBackendDescriptor_t pack) {
  return ask_cudnn<cudnnBackendExecute>(__func__, handle, plan, pack);
}
}
