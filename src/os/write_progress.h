// One write on its way, whoever carries it out: what is left of it, and when
// to give up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "os/file.h"

namespace understudy::os {

/// Bytes that go to a file by as many calls as it takes. `file` and the bytes
/// must outlive it.
class WriteProgress {
 public:
  WriteProgress() = default;
  WriteProgress(const File& file, std::uint64_t offset, std::span<const std::byte> bytes)
      : file_(&file), offset_(offset), rest_(bytes) {}

  const File& file() const noexcept { return *file_; }
  bool is_whole() const noexcept { return rest_.empty(); }
  std::uint64_t offset() const noexcept { return offset_; }  ///< where the rest goes
  std::span<const std::byte> rest() const noexcept { return rest_; }

  /// Takes what a call said: a count, or -1 with `error`. EINTR, EAGAIN and
  /// short counts leave a rest to be tried again; anything else throws.
  void advance(std::int64_t count, int error);

 private:
  const File* file_ = nullptr;
  std::uint64_t offset_ = 0;
  std::span<const std::byte> rest_;
  int vain_ = 0;  ///< calls in a row that brought nothing
};

}  // namespace understudy::os
