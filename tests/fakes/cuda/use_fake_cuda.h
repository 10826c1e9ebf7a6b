// Puts the fake driver in place of the real one, for the scope of a test.
#pragma once

#include <stdexcept>

#include "device/cuda_driver.h"
#include "fakes/cuda/fake_cuda.h"
#include "os/library.h"

namespace understudy::fakes {

/// Opened by its path, as the real one is by its name. Each begins with a
/// driver that nobody has told or asked anything; whoever still has something
/// pinned by then is a mistake of the test before.
class UseFakeCuda {
 public:
  UseFakeCuda() : library_(device::open_cuda_library(FAKE_CUDA)), replaced_(library_) {
    const auto find = reinterpret_cast<FakeCuda* (*)()>(os::Library(FAKE_CUDA).find("fake_cuda"));
    if (find == nullptr || !library_.driver) throw std::runtime_error(library_.problem);
    told_ = find();
    if (told_->registered != 0 || told_->retained != 0) throw std::runtime_error("not clean");
    *told_ = {};
  }

  FakeCuda* operator->() const { return told_; }
  const device::CudaDriver& driver() const { return *library_.driver; }

 private:
  const device::CudaLibrary library_;
  const device::ReplaceCudaLibrary replaced_;
  FakeCuda* told_ = nullptr;
};

}  // namespace understudy::fakes
