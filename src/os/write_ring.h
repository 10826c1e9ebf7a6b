// Writes through io_uring, several under way at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "os/file.h"

namespace understudy::os {

/// A ring for writes, used by one thread at a time. Each write under way has a
/// slot below `depth`; its file and bytes must stay until it has ended.
class WriteRing {
 public:
  /// Null where the kernel or the container refuses: `why` then says so.
  static std::unique_ptr<WriteRing> open(unsigned depth, std::string& why);
  /// Waits for what is under way.
  ~WriteRing();
  WriteRing(const WriteRing&) = delete;
  WriteRing& operator=(const WriteRing&) = delete;

  /// Has the kernel keep these buffers, one a slot, pinned, so that it need not
  /// do so for each write. False when it refuses (a limit on locked memory):
  /// `why` then says so, and writes go on as before.
  bool register_buffers(std::span<const std::span<std::byte>> buffers, std::string& why);

  unsigned depth() const noexcept { return depth_; }
  unsigned in_flight() const noexcept { return in_flight_; }

  /// Begins a write in a free slot. Throws when the ring takes no more.
  void begin(unsigned slot, const File& file, std::uint64_t offset,
             std::span<const std::byte> bytes);
  /// Waits until one write is whole and gives its slot, now free. EINTR, EAGAIN
  /// and short counts are handled inside; a write that fails throws, and the
  /// others stay under way.
  unsigned wait();

 private:
  struct State;
  WriteRing(std::unique_ptr<State> state, unsigned depth);
  void submit(unsigned slot);
  void drain() noexcept;

  std::unique_ptr<State> state_;
  const unsigned depth_;
  unsigned in_flight_ = 0;
};

}  // namespace understudy::os
