// Stands in for libcuda.so.1 while cuDNN makes plans on a machine that has no driver: code that was compiled
// for a device is "loaded", and whatever needs a device fails as it does with the toolkit's stub of the
// driver. Nothing is ever run. Only the process of the plans' test finds this library.
#include <stddef.h>

enum { SUCCESS = 0, STUB_LIBRARY = 34 };
static int object[64];  // of any kind

#define MAKES(name)       \
  int name(void** made) { \
    *made = object;       \
    return SUCCESS;       \
  }
#define DOES(name) \
  int name(void) { return SUCCESS; }
#define FAILS(name) \
  int name(void) { return STUB_LIBRARY; }

MAKES(cuLibraryLoadData)
MAKES(cuLibraryGetKernel)
MAKES(cuLibraryGetModule)
MAKES(cuKernelGetFunction)
MAKES(cuModuleLoadData)
MAKES(cuModuleLoadDataEx)
MAKES(cuModuleGetFunction)
DOES(cuFuncSetAttribute)
DOES(cuKernelSetAttribute)
DOES(cuLibraryUnload)
DOES(cuModuleUnload)

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return SUCCESS;
}
int cuFuncGetAttribute(int* value) {
  *value = 0;
  return SUCCESS;
}
int cuKernelGetAttribute(int* value) {
  *value = 0;
  return SUCCESS;
}
int cuOccupancyMaxActiveClusters(int* clusters) {
  *clusters = 8;
  return SUCCESS;
}
int cuLibraryGetGlobal(unsigned long long* address, size_t* bytes) {
  if (address) *address = 0;
  if (bytes) *bytes = 0;
  return SUCCESS;
}

FAILS(cuCtxGetCurrent)
FAILS(cuCtxGetDevice)
FAILS(cuCtxGetLimit)
FAILS(cuCtxPopCurrent)
FAILS(cuCtxPushCurrent)
FAILS(cuDeviceGet)
FAILS(cuDeviceGetAttribute)
FAILS(cuDeviceGetCount)
FAILS(cuDevicePrimaryCtxRelease)
FAILS(cuDevicePrimaryCtxReset)
FAILS(cuDevicePrimaryCtxRetain)
FAILS(cuGetErrorName)
FAILS(cuGetErrorString)
FAILS(cuGetExportTable)
FAILS(cuGetProcAddress_v2)
FAILS(cuInit)
FAILS(cuLaunchCooperativeKernel)
FAILS(cuLaunchKernel)
FAILS(cuLaunchKernelEx)
FAILS(cuLibraryLoadFromFile)
FAILS(cuLinkAddData)
FAILS(cuLinkAddData_v2)
FAILS(cuLinkAddFile_v2)
FAILS(cuLinkComplete)
FAILS(cuLinkCreate)
FAILS(cuLinkCreate_v2)
FAILS(cuLinkDestroy)
FAILS(cuMemcpyDtoH_v2)
FAILS(cuModuleGetGlobal_v2)
FAILS(cuModuleLoadFatBinary)
FAILS(cuOccupancyMaxActiveBlocksPerMultiprocessor)
FAILS(cuOccupancyMaxPotentialClusterSize)
FAILS(cuStreamGetCtx)
FAILS(cuStreamSynchronize)
FAILS(cuTensorMapEncodeTiled)
