#include "stage/snapshot.h"

#include <map>

#include "base/error.h"
#include "format/tree.h"
#include "vm/mapping.h"

namespace understudy {
namespace {

// What the tensors of Snapshot::state() keep alive.
struct MappedImage {
  MappedImage(memory::Lease lease, std::uint64_t nbytes)
      : image(std::move(lease)),
        mapping(vm::Mapping::copy_on_write(image->fd(), nbytes, "an image")) {}

  memory::Lease image;  // ends after the mapping
  vm::Mapping mapping;
};

}  // namespace

SnapshotState::Contents SnapshotState::contents() const {
  home_.require("a snapshot");
  std::lock_guard lock(mutex_);
  if (!contents_.image) fail(ErrorCode::closed, "the snapshot is closed");
  return contents_;
}

void SnapshotState::close() {
  if (!home_.is_here()) return;
  Contents gone;
  {
    std::lock_guard lock(mutex_);
    std::swap(gone, contents_);
  }
}

Snapshot Capturing::take() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return is_ended_; });
  if (failure_) std::rethrow_exception(failure_);
  auto taken = std::move(*snapshot_);
  snapshot_.reset();
  return taken;
}

SnapshotState::Contents Capturing::wait_contents() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return is_ended_; });
  if (failure_) std::rethrow_exception(failure_);
  if (!snapshot_) fail(ErrorCode::closed, "the snapshot was given away");
  return snapshot_->shared_state()->contents();
}

void Capturing::end(std::exception_ptr failure) {
  {
    std::lock_guard lock(mutex_);
    // A failed one's image is free before anybody is told.
    if (failure) snapshot_.reset();
    is_ended_ = true;
    failure_ = std::move(failure);
  }
  ended_.notify_all();
}

Value Snapshot::state() const {
  const auto contents = state_->contents();
  const auto mapped = std::make_shared<MappedImage>(contents.image, contents.layout->file_nbytes());
  return SnapshotState::state_over(contents, mapped->mapping.data(), mapped);
}

Value SnapshotState::state_over(const Contents& contents, std::byte* image,
                                const std::shared_ptr<void>& owner) {
  const auto& layout = *contents.layout;
  std::map<std::uint32_t, std::shared_ptr<const Storage>> storages;
  const auto bytes_of = [&](std::uint32_t entry) {
    return image + layout.header_nbytes + layout.entries[entry].begin;
  };
  format::TreeSource source;
  source.tensor = [&](const format::View& view) {
    auto& storage = storages[view.entry];
    if (!storage) {
      storage = std::make_shared<Storage>(bytes_of(view.entry), layout.entries[view.entry].nbytes(),
                                          owner);
    }
    auto v = view;
    format::resolve_view(v, layout.entries, "a snapshot");
    return Value(Tensor(storage, v.dtype, v.shape, v.strides, v.byte_offset));
  };
  source.blob = [&](std::uint32_t entry) {
    return std::string(reinterpret_cast<const char*>(bytes_of(entry)),
                       layout.entries[entry].nbytes());
  };
  source.opaque = [&](std::uint32_t index, const std::string&) {
    return contents.opaques.at(index);
  };
  return format::decode_tree(contents.tree, layout.entries, source, "a snapshot");
}

std::uint64_t Snapshot::nbytes() const {
  return state_->contents().layout->file_nbytes();
}

void Snapshot::close() {
  state_->close();
}

}  // namespace understudy
