// Writes through io_uring, several under way at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/process.h"
#include "os/file.h"

namespace understudy::os {

/// A ring for writes, used by one thread at a time. Each write under way has a
/// slot below `depth`; its file and bytes must stay until it has ended.
class WriteRing {
 public:
  /// Null where the kernel or the container refuses: `why` then says so.
  static std::unique_ptr<WriteRing> open(unsigned depth, std::string& why);
  /// Waits for what is under way; in a forked child, which has no part in it, does nothing.
  ~WriteRing();
  WriteRing(const WriteRing&) = delete;
  WriteRing& operator=(const WriteRing&) = delete;

  unsigned in_flight() const noexcept { return in_flight_; }
  /// True when `wait` has something to take, and may still have to wait for the
  /// rest of a short write.
  bool has_ended_one() const noexcept;

  /// Begins a write in a free slot. Throws when the ring takes no more.
  void begin(unsigned slot, const File& file, std::uint64_t offset,
             std::span<const std::byte> bytes);
  /// Waits until one write is whole and gives its slot, now free. EINTR, EAGAIN
  /// and short counts are handled inside; a write that fails throws, and the
  /// others stay under way.
  unsigned wait();

 private:
  struct State;
  explicit WriteRing(HomePtr<State> state);
  void submit(unsigned slot);
  void drain() noexcept;

  HomeProcess home_;
  HomePtr<State> state_;
  unsigned in_flight_ = 0;
};

}  // namespace understudy::os
