// Images: aligned host memory that snapshots are filled into, and their pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "memory/image_file.h"
#include "memory/region.h"
#include "understudy/options.h"

namespace understudy::memory {

/// Memory for one file: header and data as they will lie on disk. It has no
/// pages before `prepare`.
class Image {
 public:
  /// `choice` says what was chosen and why, for `describe`.
  Image(std::uint64_t nbytes, std::shared_ptr<device::CudaContext> context, std::string choice)
      : region_(Sharing::is_shared, nbytes, std::move(context)), choice_(std::move(choice)) {}
  /// One that has a name.
  Image(ImageFile file, std::uint64_t nbytes, std::shared_ptr<device::CudaContext> context,
        std::string choice)
      : file_name_(std::move(file.name)),
        file_owner_(std::move(file.owner)),
        region_(std::move(file.file), nbytes, std::move(context)),
        choice_(std::move(choice)) {}

  std::byte* data() const noexcept { return region_.data(); }
  /// Bytes that there are; a multiple of the page size.
  std::uint64_t capacity() const noexcept { return region_.nbytes(); }
  int fd() const noexcept { return region_.fd(); }
  /// Of its file; empty for an image without a name.
  const std::string& file_name() const noexcept { return file_name_; }
  /// Sets the length of its file, within the last page. What lies behind it stays mapped.
  void set_file_length(std::uint64_t nbytes) const;

  /// Region::prepare: before the first byte is written.
  void prepare(WorkerPool& workers, const OnPages& on_pages = {}) {
    region_.prepare(workers, on_pages);
  }
  bool prepare_piece(std::uint64_t& cursor) { return region_.prepare_piece(cursor); }
  void touch(std::uint64_t begin, std::uint64_t nbytes) { region_.touch(begin, nbytes); }
  void touch_ahead(std::uint64_t begin, std::uint64_t nbytes) {
    region_.touch_ahead(begin, nbytes);
  }
  /// `prepare` pins it; who writes to it before finds pages, but not these.
  bool is_to_be_pinned() const noexcept { return region_.context() != nullptr; }
  bool is_prepared() const noexcept { return region_.is_prepared(); }

  /// For example "pageable, huge pages".
  std::string describe() const;

  /// Which layout filled it last; 0 for fresh, zeroed memory. Gaps of that
  /// layout are zero already.
  std::uint64_t layout_id = 0;
  /// Of an image that was begun to be filled, and perhaps not to the end.
  static constexpr std::uint64_t kUnknownLayout = ~std::uint64_t{0};

 private:
  const std::string file_name_;
  const std::shared_ptr<const void> file_owner_;
  Region region_;
  const std::string choice_;
};

/// A lease ends when its last copy is gone, on any thread, without the GIL.
using Lease = std::shared_ptr<Image>;

/// At most `limit` images. Images are made on first need and reused while they
/// fit. Thread-safe.
class ImagePool {
 public:
  /// `memory` is pageable, pinned or automatic; the last is decided when the
  /// first image is made. Throws Error(unsupported) when nothing can be pinned. With `make_file`
  /// images are files, each of exactly the pages that it was made for.
  explicit ImagePool(int limit, Memory memory = Memory::pageable, MakeImageFile make_file = {});
  ~ImagePool();

  /// The right to one image, given back at its end. When all are leased: waits awake
  /// (waiting.h), adding to `waited_s`; or nothing. Throws Error(closed).
  using Slot = std::shared_ptr<void>;
  Slot take_slot(WhenBusy when_busy, double& waited_s);
  [[noreturn]] void fail_busy() const;
  /// An image of at least `nbytes` for it. Throws Error(no_space), Error(closed).
  Lease lease(Slot slot, std::uint64_t nbytes);
  /// Both. Throws Error(busy), too.
  Lease lease(std::uint64_t nbytes, WhenBusy when_busy, double& waited_s);

  /// Makes all images that there may be and prepares them on this thread, those
  /// that are leased excepted: whoever leases one meanwhile prepares the rest of
  /// it. Tells `done` the bytes of each piece. Throws Error(no_space),
  /// Error(closed).
  void prewarm(std::uint64_t nbytes, const std::function<void(std::uint64_t)>& done);

  /// Frees what is not leased; the rest when its lease ends. Waiting calls throw.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace understudy::memory
