// Images: aligned host memory that snapshots are filled into, and their pool.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "os/system.h"
#include "understudy/options.h"

namespace understudy::memory {

/// Memory for one file: header and data as they will lie on disk.
class Image {
 public:
  explicit Image(std::uint64_t nbytes) : mapping_(nbytes) {}

  std::byte* data() const noexcept { return mapping_.data(); }
  /// Bytes that there are; a multiple of the page size.
  std::uint64_t capacity() const noexcept { return mapping_.nbytes(); }
  int fd() const noexcept { return mapping_.fd(); }

  /// Which layout filled it last; 0 for fresh, zeroed memory. Gaps of that
  /// layout are zero already.
  std::uint64_t layout_id = 0;

 private:
  os::SharedMapping mapping_;
};

/// A lease ends when its last copy is gone, on any thread, without the GIL.
using Lease = std::shared_ptr<Image>;

/// At most `limit` images. Images are made on first need and reused while they
/// fit. Thread-safe.
class ImagePool {
 public:
  explicit ImagePool(int limit);
  ~ImagePool();

  /// An image of at least `nbytes`. When all are leased: waits (adding to
  /// `waited_s`), or throws Error(busy). Throws Error(no_space), Error(closed).
  Lease lease(std::uint64_t nbytes, WhenBusy when_busy, double& waited_s);

  /// Frees what is not leased; the rest when its lease ends. Waiting calls throw.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace understudy::memory
