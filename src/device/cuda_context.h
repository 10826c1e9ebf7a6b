// The context that memory is pinned in, and ranges that are pinned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/process.h"
#include "device/cuda_driver.h"

namespace understudy::device {

/// A device's primary context, which is also the one that torch and the CUDA
/// runtime use. Kept alive by whoever holds it. Thread-safe; in a forked child
/// it does nothing.
class CudaContext {
 public:
  /// Of the device that is current on this thread, else of the first one.
  /// Starts CUDA. Throws Error(unsupported) with the reason where there is none.
  static std::shared_ptr<CudaContext> open();

  /// The same where this process uses CUDA already; else null, and `why`.
  /// Starts nothing: a process that has started CUDA cannot fork children that
  /// use it.
  static std::shared_ptr<CudaContext> open_if_in_use(std::string& why);

  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  /// For example "CUDA device 0, NVIDIA H100".
  const std::string& name() const noexcept { return name_; }

 private:
  friend class PinnedRange;
  class Scope;

  CudaContext(const CudaDriver& driver, CudaDevice device);

  const CudaDriver driver_;
  const CudaDevice device_;
  CudaContextHandle handle_ = nullptr;
  std::string name_;
  HomeProcess home_;
};

/// Page-locked host memory, for copies between it and a device. Owned by who
/// owns the memory, and ended before that: what is freed while the driver takes
/// it for pinned spoils the address for whoever gets it next.
class PinnedRange {
 public:
  /// Throws Error(no_space), or Error(io), with the driver's name for the cause.
  PinnedRange(std::shared_ptr<CudaContext> context, std::byte* data, std::uint64_t nbytes);
  /// Never fails: where the context is gone, so is the pinning.
  ~PinnedRange();
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;

  const CudaContext& context() const noexcept { return *context_; }

 private:
  const std::shared_ptr<CudaContext> context_;
  std::byte* const data_;
};

struct CudaFound {
  bool is_available = false;
  std::string detail;  ///< driver version and devices, or why there are none
};

/// For doctor. Starts CUDA, but makes no context.
CudaFound probe_cuda();

}  // namespace understudy::device
