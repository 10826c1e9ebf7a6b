#include "understudy/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "base/error.h"

namespace understudy {
namespace {

// Where huge pages begin to pay: two of them, so that alignment wastes little.
constexpr std::uint64_t kHugePageNbytes = std::uint64_t{2} << 20;
constexpr std::uint64_t kLargeNbytes = 2 * kHugePageNbytes;

// Bytes before and after element 0 that the view reaches.
std::optional<std::pair<std::uint64_t, std::uint64_t>> reach(const Dims& shape, const Dims& strides,
                                                             std::uint64_t item_size) {
  std::uint64_t before = 0, after = item_size;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (strides[d] == std::numeric_limits<std::int64_t>::min()) return {};
    const auto step = static_cast<std::uint64_t>(strides[d] < 0 ? -strides[d] : strides[d]);
    auto length = checked_mul(static_cast<std::uint64_t>(shape[d] - 1), step);
    if (length) length = checked_mul(*length, item_size);
    if (!length) return {};
    auto& side = strides[d] < 0 ? before : after;
    const auto sum = checked_add(side, *length);
    if (!sum) return {};
    side = *sum;
  }
  return std::pair{before, after};
}

// True when there are no elements; throws for sizes that cannot be.
bool check_sizes(const Dims& shape, const Dims& strides, std::uint64_t item_size) {
  if (shape.size() > kMaxDims) {
    fail(ErrorCode::unsupported, "a tensor of {} dimensions: {} are the most", shape.size(),
         kMaxDims);
  }
  if (strides.size() != shape.size()) {
    fail(ErrorCode::invalid, "a tensor of {} dimensions was given {} strides", shape.size(),
         strides.size());
  }
  bool is_empty = false;
  std::uint64_t nbytes = item_size;
  for (const auto n : shape) {
    if (n < 0) fail(ErrorCode::invalid, "a tensor's shape has the negative extent {}", n);
    if (n == 0) is_empty = true;
    const auto product = checked_mul(nbytes, static_cast<std::uint64_t>(n == 0 ? 1 : n));
    if (!product || *product > std::numeric_limits<std::int64_t>::max()) {
      fail(ErrorCode::invalid, "a tensor's size overflows 63 bits");
    }
    nbytes = *product;
  }
  return is_empty;
}

// Small memory comes from `allocate_small`, large from the system, with zeros.
template <class AllocateSmall>
std::shared_ptr<const Storage> make_storage(std::uint64_t nbytes,
                                            const AllocateSmall& allocate_small) {
  if (nbytes >= kLargeNbytes) {
    const auto length = round_up(nbytes, kHugePageNbytes) + kHugePageNbytes;
    void* base = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      fail(ErrorCode::no_space, "cannot allocate {} bytes of memory", nbytes);
    }
    auto* data = reinterpret_cast<std::byte*>(
        round_up(reinterpret_cast<std::uintptr_t>(base), std::uintptr_t{kHugePageNbytes}));
    std::shared_ptr<void> owner(base, [length](void* p) { munmap(p, length); });
    return std::make_shared<Storage>(data, nbytes, std::move(owner));
  }
  constexpr std::uint64_t kCacheLine = 64;  // no two storages share a cache line
  void* base = allocate_small(nbytes + kCacheLine);
  if (base == nullptr) fail(ErrorCode::no_space, "cannot allocate {} bytes of memory", nbytes);
  std::shared_ptr<void> owner(base, [](void* p) { std::free(p); });
  auto* data = reinterpret_cast<std::byte*>(
      round_up(reinterpret_cast<std::uintptr_t>(base), std::uintptr_t{kCacheLine}));
  return std::make_shared<Storage>(data, nbytes, std::move(owner));
}

}  // namespace

std::shared_ptr<const Storage> Storage::allocate(std::uint64_t nbytes) {
  // calloc and not aligned_alloc for the small: zeroed pages come free of charge.
  return make_storage(nbytes, [](std::size_t n) { return std::calloc(1, n); });
}

std::shared_ptr<const Storage> Storage::allocate_for_overwrite(std::uint64_t nbytes) {
  return make_storage(nbytes, [](std::size_t n) { return std::malloc(n); });
}

Tensor::Tensor(std::shared_ptr<const Storage> storage, DType dtype, Dims shape, Dims strides,
               std::uint64_t byte_offset)
    : storage_(std::move(storage)),
      dtype_(dtype),
      shape_(std::move(shape)),
      strides_(std::move(strides)),
      byte_offset_(byte_offset) {
  if (!storage_) fail(ErrorCode::invalid, "a tensor needs a storage");
  if (strides_.empty()) strides_ = contiguous_strides(shape_);
  if (check_sizes(shape_, strides_, understudy::item_size(dtype_))) return;
  const auto sides = reach(shape_, strides_, understudy::item_size(dtype_));
  const auto end = sides ? checked_add(byte_offset_, sides->second) : std::nullopt;
  if (!end || sides->first > byte_offset_ || *end > storage_->nbytes()) {
    fail(ErrorCode::invalid, "a tensor at byte {} reaches outside its storage of {} bytes",
         byte_offset_, storage_->nbytes());
  }
}

Tensor Tensor::borrow(void* data, DType dtype, Dims shape, Dims strides) {
  return from_owner(nullptr, data, dtype, std::move(shape), std::move(strides));
}

Tensor Tensor::from_owner(std::shared_ptr<void> owner, void* data, DType dtype, Dims shape,
                          Dims strides) {
  if (strides.empty()) strides = contiguous_strides(shape);
  Tensor t;
  t.dtype_ = dtype;
  std::uint64_t before = 0, after = 0;
  if (!check_sizes(shape, strides, understudy::item_size(dtype))) {
    const auto sides = reach(shape, strides, understudy::item_size(dtype));
    if (!sides) fail(ErrorCode::invalid, "a tensor's strides overflow 64 bits");
    std::tie(before, after) = *sides;
    if (data == nullptr) fail(ErrorCode::invalid, "a tensor with elements has no data");
  }
  t.storage_ = std::make_shared<Storage>(static_cast<std::byte*>(data) - before, before + after,
                                         std::move(owner));
  t.byte_offset_ = before;
  t.shape_ = std::move(shape);
  t.strides_ = std::move(strides);
  return t;
}

Tensor Tensor::zeros(DType dtype, Dims shape) {
  const auto strides = contiguous_strides(shape);
  const bool is_empty = check_sizes(shape, strides, understudy::item_size(dtype));
  std::uint64_t nbytes = is_empty ? 0 : understudy::item_size(dtype);
  if (!is_empty) {
    for (const auto n : shape) nbytes *= static_cast<std::uint64_t>(n);
  }
  return Tensor(Storage::allocate(nbytes), dtype, std::move(shape));
}

std::int64_t Tensor::numel() const noexcept {
  std::int64_t n = 1;
  for (const auto d : shape_) n *= d;
  return n;
}

std::uint64_t Tensor::nbytes() const noexcept {
  return static_cast<std::uint64_t>(numel()) * understudy::item_size(dtype_);
}

bool Tensor::is_contiguous() const noexcept {
  std::int64_t expected = 1;
  for (std::size_t d = shape_.size(); d-- > 0;) {
    if (shape_[d] == 0) return true;
    if (shape_[d] == 1) continue;
    if (strides_[d] != expected) {
      // Another dimension may still be empty, which makes it contiguous.
      return numel() == 0;
    }
    expected *= shape_[d];
  }
  return true;
}

std::span<const std::byte> Tensor::bytes() const {
  if (!is_contiguous()) {
    fail(ErrorCode::invalid, "the bytes of a tensor were asked for that is not contiguous");
  }
  return {data(), nbytes()};
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides(shape.size());
  // Unsigned, because a shape that overflows is found elsewhere, not here.
  std::uint64_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = static_cast<std::int64_t>(step);
    step *= static_cast<std::uint64_t>(shape[d] > 0 ? shape[d] : 1);
  }
  return strides;
}

}  // namespace understudy
