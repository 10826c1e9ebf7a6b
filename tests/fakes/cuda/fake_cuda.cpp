// See fake_cuda.h. Keeps the driver's own rules: nothing works before cuInit,
// registering needs a current context, ranges must not overlap.
#include "fakes/cuda/fake_cuda.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace {

using understudy::fakes::FakeCuda;

// CUresult's numbers.
constexpr int kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kDeinitialized = 4;
constexpr int kNoDevice = 100, kInvalidDevice = 101, kInvalidContext = 201;
constexpr int kAlreadyRegistered = 712, kNotRegistered = 713;

constexpr int kMaxDevices = 8;

FakeCuda told;
std::mutex mutex;
std::map<std::uintptr_t, std::size_t> ranges;
std::array<int, kMaxDevices> holders{};
thread_local std::vector<int*> stack;  // contexts are the addresses of `holders`

int ready() {
  if (told.has_ended) return kDeinitialized;
  return told.is_started ? 0 : kNotInitialized;
}

bool is_mapped(std::uintptr_t address) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  return msync(reinterpret_cast<void*>(address / page * page), page, MS_ASYNC) == 0;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT FakeCuda* fake_cuda() {
  return &told;
}
// For Python.
EXPORT int fake_cuda_registered() {
  return told.registered;
}
EXPORT int fake_cuda_registrations() {
  return told.registrations;
}
EXPORT int fake_cuda_late_unregistrations() {
  return told.late_unregistrations;
}
EXPORT int fake_cuda_is_registered(std::uintptr_t address) {
  const std::lock_guard lock(mutex);
  const auto after = ranges.upper_bound(address);
  return after != ranges.begin() && address < std::prev(after)->first + std::prev(after)->second;
}
EXPORT void fake_cuda_fail_registrations(int result, int after) {
  told.register_result = result;
  told.register_failures_after = after;
}

EXPORT int cuInit(unsigned) {
  if (told.has_ended) return kDeinitialized;
  if (told.init_result != 0) return told.init_result;
  if (told.devices == 0) return kNoDevice;
  told.is_started = true;
  return 0;
}
EXPORT int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
EXPORT int cuGetErrorName(int result, const char** name) {
  switch (result) {
    case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return 0;
    case kDeinitialized: *name = "CUDA_ERROR_DEINITIALIZED"; return 0;
    case kInvalidContext: *name = "CUDA_ERROR_INVALID_CONTEXT"; return 0;
    case kAlreadyRegistered: *name = "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"; return 0;
    default: *name = nullptr; return kInvalidValue;
  }
}
EXPORT int cuDeviceGetCount(int* count) {
  *count = told.devices;
  return ready();
}
EXPORT int cuDeviceGet(int* device, int ordinal) {
  if (ready() != 0) return ready();
  *device = ordinal;
  return ordinal < told.devices ? 0 : kInvalidDevice;
}
EXPORT int cuDeviceGetName(char* name, int nbytes, int device) {
  std::snprintf(name, static_cast<std::size_t>(nbytes), "Fake GPU %c", 'A' + device);
  return ready();
}
EXPORT int cuDeviceTotalMem_v2(std::size_t* nbytes, int) {
  *nbytes = std::size_t{80} << 30;
  return ready();
}
EXPORT int cuCtxGetCurrent(void** context) {
  *context = stack.empty() ? nullptr : stack.back();
  return ready();
}
EXPORT int cuCtxGetDevice(int* device) {
  if (stack.empty()) return kInvalidContext;
  *device = static_cast<int>(stack.back() - holders.data());
  return ready();
}
EXPORT int cuCtxPushCurrent_v2(void* context) {
  if (ready() != 0) return ready();
  stack.push_back(static_cast<int*>(context));
  return 0;
}
EXPORT int cuCtxPopCurrent_v2(void** context) {
  if (ready() != 0) return ready();
  if (stack.empty()) return kInvalidContext;
  *context = stack.back();
  stack.pop_back();
  return 0;
}
EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (ready() != 0) return ready();
  if (told.retain_result != 0) return told.retain_result;
  const std::lock_guard lock(mutex);
  *context = &holders.at(static_cast<std::size_t>(device));
  ++holders.at(static_cast<std::size_t>(device));
  ++told.retained;
  return 0;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  if (ready() != 0) return ready();
  const std::lock_guard lock(mutex);
  --holders.at(static_cast<std::size_t>(device));
  --told.retained;
  return 0;
}
EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  *flags = 0;
  *active = holders.at(static_cast<std::size_t>(device)) > 0;
  return ready();
}
#if !defined(FAKE_CUDA_IS_OLD)
EXPORT int cuMemHostRegister_v2(void* data, std::size_t nbytes, unsigned flags) {
  if (ready() != 0) return ready();
  if (stack.empty() || *stack.back() == 0) return kInvalidContext;
  const std::lock_guard lock(mutex);
  if (told.register_result != 0 && told.registrations >= told.register_failures_after) {
    ++told.failures;
    return told.register_result;
  }
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const auto after = ranges.lower_bound(begin);
  if (after != ranges.end() && after->first < begin + nbytes) return kAlreadyRegistered;
  if (after != ranges.begin() && std::prev(after)->first + std::prev(after)->second > begin) {
    return kAlreadyRegistered;
  }
  ranges.emplace(begin, nbytes);
  ++told.registered;
  ++told.registrations;
  told.nbytes += static_cast<long long>(nbytes);
  told.last_device = static_cast<int>(stack.back() - holders.data());
  told.last_flags = flags;
  return 0;
}
#endif
EXPORT int cuMemHostUnregister(void* data) {
  if (ready() != 0) return ready();
  if (stack.empty()) return kInvalidContext;
  const std::lock_guard lock(mutex);
  const auto found = ranges.find(reinterpret_cast<std::uintptr_t>(data));
  if (found == ranges.end()) return kNotRegistered;
  if (!is_mapped(found->first)) ++told.late_unregistrations;
  told.nbytes -= static_cast<long long>(found->second);
  ranges.erase(found);
  --told.registered;
  ++told.unregistrations;
  return 0;
}
