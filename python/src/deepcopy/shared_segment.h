// Memory that processes share, with many torch storages in it.
//
// torch maps shared memory by whole files: a storage of its own costs a
// descriptor, a mapping and a page. Here a segment costs those, and a storage is
// a piece of it.
#pragma once

#include <memory>

#include "core/common.h"
#include "frameworks/frameworks.h"
#include "understudy/mirror.h"

namespace understudy::python {

/// Under the GIL, but for its end, which may come on any thread.
class SharedSegment : public std::enable_shared_from_this<SharedSegment> {
 public:
  explicit SharedSegment(std::shared_ptr<const Buffer> buffer) : buffer_(std::move(buffer)) {}

  std::byte* data() const { return buffer_->data; }
  std::uint64_t nbytes() const { return buffer_->nbytes; }
  int fd() const { return buffer_->fd; }

 private:
  std::shared_ptr<const Buffer> buffer_;
};

/// A segment over a buffer with a descriptor, for `segment_at` to find.
std::shared_ptr<SharedSegment> make_segment(std::shared_ptr<const Buffer> buffer);
/// The segment that an address lies in, or null.
std::shared_ptr<SharedSegment> segment_at(const std::byte* address);

/// An UntypedStorage of exactly these bytes of a segment, of the class in
/// understudy._shared. `owner` is dropped with it, on any thread, and has to own
/// the segment.
nb::object storage_in_segment(const Torch& torch, std::byte* data, std::uint64_t nbytes,
                              std::shared_ptr<const void> owner);

}  // namespace understudy::python
