// The CUDA driver as one table of functions, opened at run time. Nothing here
// needs CUDA to build; where cuda.h exists, a test compares it with this file.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace understudy::device {

// As in cuda.h, where these are an enum, an int and a pointer.
using CudaResult = int;
using CudaDevice = int;
using CudaContextHandle = struct CudaContextOpaque*;

inline constexpr CudaResult kCudaSuccess = 0;
inline constexpr CudaResult kCudaOutOfMemory = 2;
inline constexpr CudaResult kCudaNotInitialized = 3;
inline constexpr CudaResult kCudaNoDevice = 100;
/// Memory that is pinned for every context, not for the current one alone.
inline constexpr unsigned kCudaHostRegisterPortable = 1;

/// What is called of the driver. The comment is the name that it exports.
struct CudaDriver {
  CudaResult (*init)(unsigned flags);                               // cuInit
  CudaResult (*driver_version)(int* version);                       // cuDriverGetVersion
  CudaResult (*error_name)(CudaResult result, const char** name);   // cuGetErrorName
  CudaResult (*device_count)(int* count);                           // cuDeviceGetCount
  CudaResult (*device_get)(CudaDevice* device, int ordinal);        // cuDeviceGet
  CudaResult (*device_name)(char* name, int nbytes, CudaDevice);    // cuDeviceGetName
  CudaResult (*device_memory)(std::size_t* nbytes, CudaDevice);     // cuDeviceTotalMem_v2
  CudaResult (*context_current)(CudaContextHandle*);                // cuCtxGetCurrent
  CudaResult (*context_device)(CudaDevice*);                        // cuCtxGetDevice
  CudaResult (*context_push)(CudaContextHandle);                    // cuCtxPushCurrent_v2
  CudaResult (*context_pop)(CudaContextHandle*);                    // cuCtxPopCurrent_v2
  CudaResult (*primary_retain)(CudaContextHandle*, CudaDevice);     // cuDevicePrimaryCtxRetain
  CudaResult (*primary_release)(CudaDevice);                        // cuDevicePrimaryCtxRelease_v2
  CudaResult (*primary_state)(CudaDevice, unsigned*, int* active);  // cuDevicePrimaryCtxGetState
  CudaResult (*host_register)(void*, std::size_t, unsigned flags);  // cuMemHostRegister_v2
  CudaResult (*host_unregister)(void*);                             // cuMemHostUnregister
};

/// Calls `visit(member, name)` for every function of the table.
template <class Visit>
void for_each_function(Visit visit) {
  visit(&CudaDriver::init, "cuInit");
  visit(&CudaDriver::driver_version, "cuDriverGetVersion");
  visit(&CudaDriver::error_name, "cuGetErrorName");
  visit(&CudaDriver::device_count, "cuDeviceGetCount");
  visit(&CudaDriver::device_get, "cuDeviceGet");
  visit(&CudaDriver::device_name, "cuDeviceGetName");
  visit(&CudaDriver::device_memory, "cuDeviceTotalMem_v2");
  visit(&CudaDriver::context_current, "cuCtxGetCurrent");
  visit(&CudaDriver::context_device, "cuCtxGetDevice");
  visit(&CudaDriver::context_push, "cuCtxPushCurrent_v2");
  visit(&CudaDriver::context_pop, "cuCtxPopCurrent_v2");
  visit(&CudaDriver::primary_retain, "cuDevicePrimaryCtxRetain");
  visit(&CudaDriver::primary_release, "cuDevicePrimaryCtxRelease_v2");
  visit(&CudaDriver::primary_state, "cuDevicePrimaryCtxGetState");
  visit(&CudaDriver::host_register, "cuMemHostRegister_v2");
  visit(&CudaDriver::host_unregister, "cuMemHostUnregister");
}

/// A driver, or why there is none.
struct CudaLibrary {
  std::optional<CudaDriver> driver;
  std::string problem;
};

/// Opens a driver library. It stays open. Starts nothing.
CudaLibrary open_cuda_library(const std::string& name);

/// The driver of this process, opened at the first call: libcuda.so.1, or what
/// the variable UNDERSTUDY_CUDA_DRIVER names (for tests without a GPU).
const CudaLibrary& cuda_library();

/// Puts another driver in place until the end of the scope. For tests, as
/// os::ReplaceCalls. `library` must outlive it.
class ReplaceCudaLibrary {
 public:
  explicit ReplaceCudaLibrary(const CudaLibrary& library) noexcept;
  ~ReplaceCudaLibrary();
  ReplaceCudaLibrary(const ReplaceCudaLibrary&) = delete;
  ReplaceCudaLibrary& operator=(const ReplaceCudaLibrary&) = delete;

 private:
  const CudaLibrary* before_;
};

/// The driver's name for a result, for example "CUDA_ERROR_OUT_OF_MEMORY".
std::string cuda_result_name(const CudaDriver& driver, CudaResult result);

}  // namespace understudy::device
