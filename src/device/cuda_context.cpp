#include "device/cuda_context.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace understudy::device {
namespace {

std::string name_of(const CudaDriver& driver, CudaDevice device) {
  std::array<char, 256> name{};  // as long as cudaDeviceProp's
  if (driver.device_name(name.data(), static_cast<int>(name.size()) - 1, device) != kCudaSuccess) {
    return "unnamed";
  }
  return name.data();
}

// The driver's version as people write it: it says 12040 for 12.4.
std::string version_of(const CudaDriver& driver) {
  int number = 0;
  if (driver.driver_version(&number) != kCudaSuccess) return "an unknown version";
  return format_text("CUDA {}.{}", number / 1000, number % 1000 / 10);
}

// Starts the driver. Empty, or why it cannot.
std::string start(const CudaDriver& driver, int& devices) {
  auto result = driver.init(0);
  if (result == kCudaSuccess) result = driver.device_count(&devices);
  if (result == kCudaNoDevice || (result == kCudaSuccess && devices == 0)) {
    return format_text("the CUDA driver, for {}, finds no device", version_of(driver));
  }
  if (result != kCudaSuccess) {
    return format_text("the CUDA driver, for {}, does not start: {}", version_of(driver),
                       cuda_result_name(driver, result));
  }
  return {};
}

}  // namespace

// Makes the context current on this thread, and what was current before after it.
class CudaContext::Scope {
 public:
  explicit Scope(const CudaContext& context)
      : driver_(context.driver_), result_(driver_.context_push(context.handle_)) {}
  ~Scope() {
    CudaContextHandle gone = nullptr;
    if (result_ == kCudaSuccess) driver_.context_pop(&gone);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  CudaResult result() const noexcept { return result_; }

 private:
  const CudaDriver& driver_;
  const CudaResult result_;
};

CudaContext::CudaContext(const CudaDriver& driver, CudaDevice device)
    : driver_(driver), device_(device) {
  const auto result = driver_.primary_retain(&handle_, device_);
  if (result != kCudaSuccess) {
    fail(ErrorCode::unsupported, "CUDA device {} ({}) gives no context: {}", device_,
         name_of(driver_, device_), cuda_result_name(driver_, result));
  }
  name_ = format_text("CUDA device {}, {}", device_, name_of(driver_, device_));
}

CudaContext::~CudaContext() {
  if (home_.is_here()) driver_.primary_release(device_);
}

std::shared_ptr<CudaContext> CudaContext::open() {
  const auto& library = cuda_library();
  if (!library.driver) fail(ErrorCode::unsupported, "memory cannot be pinned: {}", library.problem);
  const auto& driver = *library.driver;
  int devices = 0;
  if (const auto problem = start(driver, devices); !problem.empty()) {
    fail(ErrorCode::unsupported, "memory cannot be pinned: {}", problem);
  }
  CudaContextHandle current = nullptr;
  CudaDevice device = 0;
  auto result = driver.context_current(&current);
  if (result == kCudaSuccess) {
    result = current != nullptr ? driver.context_device(&device) : driver.device_get(&device, 0);
  }
  if (result != kCudaSuccess) {
    fail(ErrorCode::unsupported, "memory cannot be pinned: no CUDA device can be chosen: {}",
         cuda_result_name(driver, result));
  }
  return std::shared_ptr<CudaContext>(new CudaContext(driver, device));
}

std::shared_ptr<CudaContext> CudaContext::open_if_in_use(std::string& why) {
  const auto& library = cuda_library();
  if (!library.driver) {
    why = library.problem;
    return nullptr;
  }
  const auto& driver = *library.driver;
  CudaContextHandle current = nullptr;
  // Before cuInit this is the one thing that may be asked.
  if (driver.context_current(&current) != kCudaSuccess) {
    why = "this process does not use CUDA";
    return nullptr;
  }
  CudaDevice device = 0;
  if (current != nullptr && driver.context_device(&device) == kCudaSuccess) {
    return std::shared_ptr<CudaContext>(new CudaContext(driver, device));
  }
  int devices = 0;
  driver.device_count(&devices);
  for (int ordinal = 0; ordinal < devices; ++ordinal) {
    unsigned flags = 0;
    int is_active = 0;
    if (driver.device_get(&device, ordinal) == kCudaSuccess &&
        driver.primary_state(device, &flags, &is_active) == kCudaSuccess && is_active != 0) {
      return std::shared_ptr<CudaContext>(new CudaContext(driver, device));
    }
  }
  why = "this process uses no CUDA device";
  return nullptr;
}

PinnedRange::PinnedRange(std::shared_ptr<CudaContext> context, std::byte* data,
                         std::uint64_t nbytes)
    : context_(std::move(context)), data_(data) {
  const auto& driver = context_->driver_;
  const CudaContext::Scope scope(*context_);
  auto result = scope.result();
  if (result == kCudaSuccess) {
    result = driver.host_register(data, nbytes, kCudaHostRegisterPortable);
  }
  if (result != kCudaSuccess) {
    fail(result == kCudaOutOfMemory ? ErrorCode::no_space : ErrorCode::io,
         "cannot pin {} bytes of memory for {}: {}", nbytes, context_->name(),
         cuda_result_name(driver, result));
  }
}

PinnedRange::~PinnedRange() {
  if (!context_->home_.is_here()) return;
  const CudaContext::Scope scope(*context_);
  // Whatever it says: a driver that has ended, or a context that has failed,
  // pins nothing any more.
  if (scope.result() == kCudaSuccess) context_->driver_.host_unregister(data_);
}

CudaFound probe_cuda() {
  const auto& library = cuda_library();
  if (!library.driver) return {false, library.problem};
  const auto& driver = *library.driver;
  int devices = 0;
  if (auto problem = start(driver, devices); !problem.empty()) return {false, std::move(problem)};
  auto detail = format_text("driver for {}, {} device{}:", version_of(driver), devices,
                            devices == 1 ? "" : "s");
  for (int ordinal = 0; ordinal < devices; ++ordinal) {
    CudaDevice device = 0;
    std::size_t nbytes = 0;
    if (driver.device_get(&device, ordinal) != kCudaSuccess) continue;
    driver.device_memory(&nbytes, device);
    detail += format_text("{} {} with {:.1f} GiB", ordinal > 0 ? "," : "", name_of(driver, device),
                          static_cast<double>(nbytes) / double(1 << 30));
  }
  return {true, std::move(detail)};
}

}  // namespace understudy::device
