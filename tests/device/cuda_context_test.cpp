#include "device/cuda_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "fakes/cuda/use_fake_cuda.h"
#include "fakes/expect_error.h"
#include "vm/mapping.h"

namespace understudy::device {
namespace {

using fakes::expect_error;
using fakes::UseFakeCuda;
using ::testing::HasSubstr;

constexpr std::uint64_t kNbytes = 8192;

// What torch does: the primary context of a device, current on this thread.
class CurrentDevice {
 public:
  CurrentDevice(const UseFakeCuda& fake, int device) : driver_(fake.driver()), device_(device) {
    EXPECT_EQ(driver_.init(0), 0);
    EXPECT_EQ(driver_.primary_retain(&handle_, device), 0);
    EXPECT_EQ(driver_.context_push(handle_), 0);
  }
  ~CurrentDevice() {
    CudaContextHandle gone = nullptr;
    driver_.context_pop(&gone);
    EXPECT_EQ(gone, handle_);  // what was pushed on top of it is gone
    driver_.primary_release(device_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  CudaContextHandle handle() const { return handle_; }

 private:
  const CudaDriver& driver_;
  const int device_;
  CudaContextHandle handle_ = nullptr;
};

TEST(CudaContext, TakesTheFirstDeviceOrTheCurrentOne) {
  const UseFakeCuda fake;
  EXPECT_EQ(CudaContext::open()->name(), "CUDA device 0, Fake GPU A");
  const CurrentDevice current(fake, 1);
  EXPECT_EQ(CudaContext::open()->name(), "CUDA device 1, Fake GPU B");
  EXPECT_EQ(fake->retained, 1);  // the others have let go
}

TEST(CudaContext, WithoutCudaSaysWhy) {
  {
    const auto missing = open_cuda_library("/nowhere/libcuda.so.1");
    const ReplaceCudaLibrary replaced(missing);
    expect_error(ErrorCode::unsupported, "no CUDA driver", [] { CudaContext::open(); });
  }
  {
    const auto old = open_cuda_library(OLD_FAKE_CUDA);
    const ReplaceCudaLibrary replaced(old);
    expect_error(ErrorCode::unsupported, "too old", [] { CudaContext::open(); });
  }
  const UseFakeCuda fake;
  fake->devices = 0;
  expect_error(ErrorCode::unsupported, "finds no device", [] { CudaContext::open(); });
  fake->devices = 1;
  fake->init_result = 2;
  expect_error(ErrorCode::unsupported, "does not start: CUDA_ERROR_OUT_OF_MEMORY",
               [] { CudaContext::open(); });
  fake->init_result = 0;
  fake->retain_result = 2;
  expect_error(ErrorCode::unsupported, "gives no context: CUDA_ERROR_OUT_OF_MEMORY",
               [] { CudaContext::open(); });
  EXPECT_EQ(fake->retained, 0);
}

TEST(CudaContext, IsNotStartedByThoseWhoOnlyLook) {
  const UseFakeCuda fake;
  std::string why;
  EXPECT_EQ(CudaContext::open_if_in_use(why), nullptr);
  EXPECT_EQ(why, "this process does not use CUDA");
  EXPECT_FALSE(fake->is_started);
  fake.driver().init(0);
  EXPECT_EQ(CudaContext::open_if_in_use(why), nullptr);
  EXPECT_EQ(why, "this process uses no CUDA device");
  const CurrentDevice current(fake, 1);
  EXPECT_EQ(CudaContext::open_if_in_use(why)->name(), "CUDA device 1, Fake GPU B");
  // The thread that stages need not be the one that trains.
  std::thread([&] {
    EXPECT_EQ(CudaContext::open_if_in_use(why)->name(), "CUDA device 1, Fake GPU B");
  }).join();
}

TEST(PinnedRange, PinsInItsContextForAll) {
  const UseFakeCuda fake;
  const CurrentDevice current(fake, 0);
  const auto memory = vm::Mapping::anonymous(kNbytes);
  {
    const CurrentDevice other(fake, 1);
    const PinnedRange range(CudaContext::open(), memory.data(), kNbytes);
    EXPECT_EQ(fake->registered, 1);
    EXPECT_EQ(fake->nbytes, static_cast<long long>(kNbytes));
    EXPECT_EQ(fake->last_device, 1);
    EXPECT_EQ(fake->last_flags, kCudaHostRegisterPortable);
    CudaContextHandle now = nullptr;
    fake.driver().context_current(&now);
    EXPECT_EQ(now, other.handle());
  }
  EXPECT_EQ(fake->registered, 0);
  EXPECT_EQ(fake->late_unregistrations, 0);
}

TEST(PinnedRange, EndsOnAnyThread) {
  const UseFakeCuda fake;
  const auto memory = vm::Mapping::anonymous(kNbytes);
  auto range = std::make_unique<PinnedRange>(CudaContext::open(), memory.data(), kNbytes);
  std::thread([&] { range.reset(); }).join();
  EXPECT_EQ(fake->registered, 0);
  EXPECT_EQ(fake->retained, 0);
}

TEST(PinnedRange, FailureNamesBytesAndCause) {
  const UseFakeCuda fake;
  const auto memory = vm::Mapping::anonymous(kNbytes);
  fake->register_result = kCudaOutOfMemory;
  expect_error(ErrorCode::no_space,
               "cannot pin 8192 bytes of memory for CUDA device 0, Fake GPU A: "
               "CUDA_ERROR_OUT_OF_MEMORY",
               [&] { PinnedRange(CudaContext::open(), memory.data(), kNbytes); });
  EXPECT_EQ(fake->failures, 1);
  fake->register_result = 0;
  const PinnedRange first(CudaContext::open(), memory.data(), kNbytes);
  expect_error(ErrorCode::io, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
               [&] { PinnedRange(CudaContext::open(), memory.data(), kNbytes); });
  EXPECT_EQ(fake->registered, 1);
  EXPECT_EQ(fake->retained, 1);
}

TEST(PinnedRange, EndsQuietlyAfterTheDriver) {
  const UseFakeCuda fake;
  const auto memory = vm::Mapping::anonymous(kNbytes);
  auto range = std::make_unique<PinnedRange>(CudaContext::open(), memory.data(), kNbytes);
  fake->has_ended = true;
  range.reset();  // CUDA_ERROR_DEINITIALIZED to every call
  EXPECT_EQ(fake->unregistrations, 0);
  fake->has_ended = false;
  // What a driver that has ended would have forgotten by itself.
  CudaContextHandle handle = nullptr, gone = nullptr;
  fake.driver().primary_retain(&handle, 0);
  fake.driver().context_push(handle);
  EXPECT_EQ(fake.driver().host_unregister(memory.data()), 0);
  fake.driver().context_pop(&gone);
  fake.driver().primary_release(0);
  fake.driver().primary_release(0);
}

TEST(PinnedRange, IsInertInAForkedChild) {
  const UseFakeCuda fake;
  const auto memory = vm::Mapping::anonymous(kNbytes);
  auto range = std::make_unique<PinnedRange>(CudaContext::open(), memory.data(), kNbytes);
  const auto child = fork();
  if (child == 0) {
    range.reset();
    _exit(fake->registered == 1 && fake->retained == 1 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ProbeCuda, NamesDriverAndDevices) {
  const UseFakeCuda fake;
  const auto found = probe_cuda();
  EXPECT_TRUE(found.is_available);
  EXPECT_EQ(found.detail,
            "driver for CUDA 13.0, 2 devices: Fake GPU A with 80.0 GiB, Fake GPU B with 80.0 GiB");
  EXPECT_EQ(fake->retained, 0);
  fake->devices = 0;
  EXPECT_FALSE(probe_cuda().is_available);
  EXPECT_EQ(probe_cuda().detail, "the CUDA driver, for CUDA 13.0, finds no device");
}

TEST(ProbeCuda, WithoutDriverSaysSo) {
  const auto missing = open_cuda_library("/nowhere/libcuda.so.1");
  const ReplaceCudaLibrary replaced(missing);
  EXPECT_FALSE(probe_cuda().is_available);
  EXPECT_THAT(probe_cuda().detail, HasSubstr("no CUDA driver"));
}

}  // namespace
}  // namespace understudy::device
