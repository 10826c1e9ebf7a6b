// Host memory that devices may write.
#pragma once

namespace understudy::device {

/// A look at what the CUDA driver has pinned, where the program has loaded it. A
/// device writes such memory past the page tables, so that no protection holds it.
class PinnedMemory {
 public:
  PinnedMemory();  ///< never loads a driver

  /// True when `address` lies in memory that the driver allocated or registered.
  bool holds(const void* address) const noexcept;

 private:
  using GetAttribute = int (*)(void* out, int attribute, unsigned long long address);
  GetAttribute get_attribute_ = nullptr;
};

}  // namespace understudy::device
