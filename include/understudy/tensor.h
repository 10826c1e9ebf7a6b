// Storage and Tensor: bytes somebody owns, and a strided look at them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "understudy/dtype.h"

namespace understudy {

/// Extents of a tensor, outermost first. Counts of elements, not bytes.
using Dims = std::vector<std::int64_t>;

/// The most dimensions that a tensor may have: as many as PyTorch's operations and
/// NumPy take. What goes through dimensions one by one may count on it.
inline constexpr std::size_t kMaxDims = 64;

/// Bytes to be copied from one place in host memory to another.
struct ByteCopy {
  const std::byte* from = nullptr;  ///< the first byte to read
  std::byte* to = nullptr;          ///< where it goes
  std::uint64_t nbytes = 0;         ///< how many bytes
};

/// A run of host memory with an owner. Shared by all tensors that view it.
/// Holding a Storage keeps `owner` alive, and with it the bytes; a borrowed
/// storage has no owner and the caller answers for its life.
class Storage {
 public:
  /// `nbytes` bytes at `data`, which `owner` keeps alive.
  Storage(std::byte* data, std::uint64_t nbytes, std::shared_ptr<void> owner)
      : data_(data), nbytes_(nbytes), owner_(std::move(owner)) {}

  /// New zeroed memory, aligned to 64 bytes (to 2 MiB, so that huge pages fit,
  /// from 4 MiB up). Throws Error(no_space).
  static std::shared_ptr<const Storage> allocate(std::uint64_t nbytes);
  /// The same for who writes every byte of it: its content is anything.
  static std::shared_ptr<const Storage> allocate_for_overwrite(std::uint64_t nbytes);

  /// The first byte.
  std::byte* data() const noexcept { return data_; }
  /// Size in bytes.
  std::uint64_t nbytes() const noexcept { return nbytes_; }
  /// What keeps the bytes alive; null when they are borrowed.
  const std::shared_ptr<void>& owner() const noexcept { return owner_; }

 private:
  std::byte* data_;
  std::uint64_t nbytes_;
  std::shared_ptr<void> owner_;
};

/// A strided view over a storage. Copying a Tensor copies the view, never the
/// bytes. Strides are in elements and may be zero or negative.
class Tensor {
 public:
  /// A view at `byte_offset` (of element 0) into `storage`. Empty `strides`
  /// with non-empty `shape` means C order. Throws Error(invalid) when the view
  /// does not lie within the storage, the sizes overflow or there are more than
  /// kMaxDims dimensions.
  Tensor(std::shared_ptr<const Storage> storage, DType dtype, Dims shape, Dims strides = {},
         std::uint64_t byte_offset = 0);

  /// A view of memory that the caller keeps alive and in place until the
  /// capture is complete. `data` is the address of element 0.
  static Tensor borrow(void* data, DType dtype, Dims shape, Dims strides = {});

  /// Like `borrow`, but the tensor keeps `owner` alive.
  static Tensor from_owner(std::shared_ptr<void> owner, void* data, DType dtype, Dims shape,
                           Dims strides = {});

  /// New zeroed memory of its own, C order.
  static Tensor zeros(DType dtype, Dims shape);

  /// The element type.
  DType dtype() const noexcept { return dtype_; }
  /// Number of elements of each dimension, outermost first.
  const Dims& shape() const noexcept { return shape_; }
  /// Distance of neighbours in each dimension, in elements.
  const Dims& strides() const noexcept { return strides_; }
  /// Where element 0 lies in the storage, in bytes.
  std::uint64_t byte_offset() const noexcept { return byte_offset_; }
  /// The memory that it views.
  const std::shared_ptr<const Storage>& storage() const noexcept { return storage_; }

  /// Address of element 0. Meaningless when numel() is 0.
  std::byte* data() const noexcept { return storage_->data() + byte_offset_; }
  /// Number of elements.
  std::int64_t numel() const noexcept;
  /// numel() times the item size: the bytes of a dense copy.
  std::uint64_t nbytes() const noexcept;
  /// True when the elements lie densely in C order.
  bool is_contiguous() const noexcept;

  /// The elements as bytes; only for contiguous tensors.
  std::span<const std::byte> bytes() const;

 private:
  Tensor() = default;

  std::shared_ptr<const Storage> storage_;
  DType dtype_ = DType::u8;
  Dims shape_;
  Dims strides_;
  std::uint64_t byte_offset_ = 0;
};

/// C-order strides, in elements, for `shape`.
Dims contiguous_strides(const Dims& shape);

}  // namespace understudy
