// Our declarations of the CUDA driver against NVIDIA's, where those are.
#include <gtest/gtest.h>

#include <type_traits>

#include "device/cuda_driver.h"

#if __has_include(<cuda.h>)
#include <cuda.h>
#endif

namespace understudy::device {
namespace {

#if __has_include(<cuda.h>)

// Enums of theirs are plain numbers of ours, handles are pointers to something
// of another name, and sizes must be the same.
template <class Ours, class Theirs>
constexpr bool is_same_value() {
  if constexpr (std::is_enum_v<Theirs>) {
    return std::is_same_v<Ours, int> && sizeof(Theirs) == sizeof(int);
  } else if constexpr (std::is_same_v<Theirs, CUcontext> || std::is_same_v<Theirs, CUcontext*>) {
    return std::is_same_v<Ours, std::conditional_t<std::is_same_v<Theirs, CUcontext>,
                                                   CudaContextHandle, CudaContextHandle*>>;
  } else {
    return std::is_same_v<Ours, Theirs>;
  }
}

template <class R, class... A, class Other, class... B>
constexpr bool is_same_call(R (*)(A...), Other (*)(B...)) {
  if constexpr (sizeof...(A) != sizeof...(B)) {
    return false;
  } else {
    return is_same_value<R, Other>() && (is_same_value<A, B>() && ...);
  }
}

// The macro gives the name with the version that cuda.h takes today.
#define NAME_OF(function) #function
#define EXPORTED(function) NAME_OF(function)
#define COMPARE(member, function)                                                       \
  static_assert(is_same_call(decltype(CudaDriver::member){}, decltype(&::function){})); \
  EXPECT_EQ(symbol_of(&CudaDriver::member), EXPORTED(function))

template <class Function>
std::string symbol_of(Function CudaDriver::*wanted) {
  std::string found;
  for_each_function([&](auto member, const char* symbol) {
    if constexpr (std::is_same_v<decltype(member), Function CudaDriver::*>) {
      if (member == wanted) found = symbol;
    }
  });
  return found;
}

TEST(CudaHeader, DeclaresWhatWeDeclare) {
  COMPARE(init, cuInit);
  COMPARE(driver_version, cuDriverGetVersion);
  COMPARE(error_name, cuGetErrorName);
  COMPARE(device_count, cuDeviceGetCount);
  COMPARE(device_get, cuDeviceGet);
  COMPARE(device_name, cuDeviceGetName);
  COMPARE(device_memory, cuDeviceTotalMem);
  COMPARE(context_current, cuCtxGetCurrent);
  COMPARE(context_device, cuCtxGetDevice);
  COMPARE(context_push, cuCtxPushCurrent);
  COMPARE(context_pop, cuCtxPopCurrent);
  COMPARE(primary_retain, cuDevicePrimaryCtxRetain);
  COMPARE(primary_release, cuDevicePrimaryCtxRelease);
  COMPARE(primary_state, cuDevicePrimaryCtxGetState);
  COMPARE(host_register, cuMemHostRegister);
  COMPARE(host_unregister, cuMemHostUnregister);
  EXPECT_EQ(kCudaSuccess, int{CUDA_SUCCESS});
  EXPECT_EQ(kCudaOutOfMemory, int{CUDA_ERROR_OUT_OF_MEMORY});
  EXPECT_EQ(kCudaNotInitialized, int{CUDA_ERROR_NOT_INITIALIZED});
  EXPECT_EQ(kCudaNoDevice, int{CUDA_ERROR_NO_DEVICE});
  EXPECT_EQ(kCudaHostRegisterPortable, unsigned{CU_MEMHOSTREGISTER_PORTABLE});
}

TEST(CudaHeader, TheComparisonCanFail) {
  EXPECT_FALSE(is_same_call(static_cast<int (*)(int*)>(nullptr), decltype(&::cuDeviceGet){}));
  EXPECT_FALSE(is_same_call(static_cast<int (*)(int*, long)>(nullptr), decltype(&::cuDeviceGet){}));
  EXPECT_FALSE(is_same_call(static_cast<int (*)(void*)>(nullptr), decltype(&::cuCtxGetDevice){}));
}

#else

TEST(CudaHeader, DeclaresWhatWeDeclare) {
  GTEST_SKIP() << "there is no cuda.h on this machine to compare with";
}

#endif

}  // namespace
}  // namespace understudy::device
