// Making the pages of new memory that is about to be filled: those that are cheaper now.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace understudy::vm {

/// A huge page costs a fifth of the small ones that it replaces, unless the
/// machine is a virtual one whose host took the memory back: then the host has
/// to find 2 MiB in one piece first, and it costs five times as much as small
/// ones. Nothing tells which but trying: huge pages are made until a few of them
/// have been slow, small ones from then on. Thread-safe.
class Prefault {
 public:
  // Measured for 2 MiB, on one of two busy cores: 0.2 ms for a huge page, 0.9 ms
  // for 512 small ones, 4.7 ms for a huge page that the host has to find.
  static constexpr std::chrono::nanoseconds kSlow = std::chrono::microseconds(1500);

  /// What takes longer than `slow` counts as slow.
  explicit Prefault(std::chrono::nanoseconds slow = kSlow) : limit_(slow) {}

  /// Makes the pages of `part`, which is about to be filled. `whole` is the
  /// fresh memory that it belongs to: what lies in `whole` may change its pages.
  /// Changes no bytes; a kernel that cannot (before 5.14) leaves it to faults.
  void make(std::span<std::byte> part, std::span<std::byte> whole) noexcept;

  /// What has been made so far, and why; empty for nothing.
  const char* what() const noexcept;

 private:
  const std::chrono::nanoseconds limit_;
  std::atomic<int> slow_{0};
  std::atomic<bool> has_any_{false};
  std::atomic<bool> has_huge_{false};
};

}  // namespace understudy::vm
