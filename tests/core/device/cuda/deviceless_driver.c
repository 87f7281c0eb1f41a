/* libcuda.so.1 for a test on machines without a driver: it takes the modules that cuDNN compiles, and runs nothing. All else
 * that cuDNN 9.19 looks for is there and refused, with CUDA_ERROR_STUB_LIBRARY. */
static int give(void** out, long what) {
  *out = (void*)what;
  return 0;
}
static int zero(int* out) {
  *out = 0;
  return 0;
}

int cuGetErrorName(int code, const char** out) {
  (void)code;
  *out = "no driver";
  return 0;
}
int cuGetErrorString(int code, const char** out) { return cuGetErrorName(code, out); }
int cuFuncGetAttribute(int* out) { return zero(out); }
int cuFuncSetAttribute(void) { return 0; }
int cuKernelGetAttribute(int* out) { return zero(out); }
int cuKernelGetFunction(void** out) { return give(out, 0x3000); }
int cuKernelSetAttribute(void) { return 0; }
int cuKernelSetCacheConfig(void) { return 0; }
int cuLibraryGetKernel(void** out) { return give(out, 0x2000); }
int cuLibraryLoadData(void** out) { return give(out, 0x1000); }
int cuLibraryUnload(void) { return 0; }
int cuModuleGetFunction(void** out) { return give(out, 0x5000); }
int cuModuleLoadData(void** out) { return give(out, 0x4000); }
int cuModuleLoadDataEx(void** out) { return give(out, 0x4000); }
int cuModuleUnload(void) { return 0; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* out) {
  *out = 1;
  return 0;
}

enum { kStubLibrary = 34 };
#define REFUSE(name) \
  int name(void) { return kStubLibrary; }
REFUSE(cuCtxGetCurrent)
REFUSE(cuCtxGetDevice)
REFUSE(cuCtxGetLimit)
REFUSE(cuCtxPopCurrent)
REFUSE(cuCtxPushCurrent)
REFUSE(cuDeviceGet)
REFUSE(cuDeviceGetAttribute)
REFUSE(cuDeviceGetCount)
REFUSE(cuDevicePrimaryCtxRelease)
REFUSE(cuDevicePrimaryCtxReset)
REFUSE(cuDevicePrimaryCtxRetain)
REFUSE(cuDriverGetVersion)
REFUSE(cuInit)
REFUSE(cuLaunchCooperativeKernel)
REFUSE(cuLaunchKernel)
REFUSE(cuLaunchKernelEx)
REFUSE(cuLibraryLoadFromFile)
REFUSE(cuLinkAddData)
REFUSE(cuLinkAddData_v2)
REFUSE(cuLinkAddFile_v2)
REFUSE(cuLinkComplete)
REFUSE(cuLinkCreate)
REFUSE(cuLinkCreate_v2)
REFUSE(cuLinkDestroy)
REFUSE(cuMemcpyDtoH_v2)
REFUSE(cuModuleGetGlobal_v2)
REFUSE(cuModuleLoadFatBinary)
REFUSE(cuOccupancyMaxPotentialClusterSize)
REFUSE(cuStreamGetCtx)
REFUSE(cuStreamSynchronize)
REFUSE(cuTensorMapEncodeTiled)
