#include "device/cuda_driver.h"

#include <atomic>
#include <cstdlib>

#include "base/text.h"
#include "os/library.h"

namespace understudy::device {
namespace {

constinit std::atomic<const CudaLibrary*> replacement = nullptr;

}  // namespace

CudaLibrary open_cuda_library(const std::string& name) {
  const os::Library library(name);
  if (!library.is_open()) return {{}, format_text("no CUDA driver: {}", library.problem())};
  CudaDriver driver{};
  std::string missing;
  for_each_function([&](auto member, const char* symbol) {
    void* const found = library.find(symbol);
    driver.*member = reinterpret_cast<std::remove_reference_t<decltype(driver.*member)>>(found);
    if (found == nullptr && missing.empty()) missing = symbol;
  });
  if (!missing.empty()) {
    return {{}, format_text("the CUDA driver is too old: {} has no function {}", name, missing)};
  }
  return {driver, {}};
}

const CudaLibrary& cuda_library() {
  if (const auto* const other = replacement.load(std::memory_order_acquire)) return *other;
  static const auto* const library = [] {
    const char* const name = std::getenv("UNDERSTUDY_CUDA_DRIVER");
    return new CudaLibrary(open_cuda_library(name != nullptr ? name : "libcuda.so.1"));
  }();
  return *library;
}

ReplaceCudaLibrary::ReplaceCudaLibrary(const CudaLibrary& library) noexcept
    : before_(replacement.exchange(&library, std::memory_order_acq_rel)) {}

ReplaceCudaLibrary::~ReplaceCudaLibrary() {
  replacement.store(before_, std::memory_order_release);
}

std::string cuda_result_name(const CudaDriver& driver, CudaResult result) {
  const char* name = nullptr;
  if (driver.error_name(result, &name) == kCudaSuccess && name != nullptr) return name;
  return format_text("result {}", result);
}

}  // namespace understudy::device
