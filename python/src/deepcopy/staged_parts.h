// What the table of staged storages is made of. For staged*.cpp.
#pragma once

#include <algorithm>
#include <array>

#include "deepcopy/staged.h"

namespace understudy::python {

inline nb::object dtype_object(PyObject* tensor) {
  static auto* const name = interned("dtype");
  return get_attribute(tensor, name);
}

// DLPack shows torch's narrow integers as these.
inline bool is_ambiguous(dlpack::DataType type) {
  return type.bits == 8 && (type.code == dlpack::kInt || type.code == dlpack::kUInt);
}

inline std::uint64_t number(nb::handle method, PyObject* self) {
  const auto value = PyLong_AsUnsignedLongLong(call_method(method, self).ptr());
  throw_if(PyErr_Occurred() != nullptr);
  return value;
}

// Shape and strides, side by side in one place for tensors of few dimensions.
class Geometry {
 public:
  Geometry() = default;
  explicit Geometry(const dlpack::Tensor& lent) : dims_(lent.ndim) {
    const auto n = static_cast<std::size_t>(dims_);
    if (n > kInline) many_.resize(2 * n);
    std::copy_n(lent.shape, n, numbers());
    std::copy_n(lent.strides, n, numbers() + n);
  }
  bool operator==(const dlpack::Tensor& lent) const {
    const auto n = static_cast<std::size_t>(dims_);
    return lent.ndim == dims_ && std::equal(numbers(), numbers() + n, lent.shape) &&
           std::equal(numbers() + n, numbers() + 2 * n, lent.strides);
  }
  Dims shape() const { return {numbers(), numbers() + dims_}; }
  Dims strides() const { return {numbers() + dims_, numbers() + 2 * dims_}; }

 private:
  static constexpr std::size_t kInline = 4;
  const std::int64_t* numbers() const { return many_.empty() ? few_.data() : many_.data(); }
  std::int64_t* numbers() { return many_.empty() ? few_.data() : many_.data(); }

  std::int32_t dims_ = 0;
  std::array<std::int64_t, 2 * kInline> few_{};
  std::vector<std::int64_t> many_;
};

inline bool is_same_type(dlpack::DataType a, dlpack::DataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

inline const std::byte* data_of(const dlpack::Tensor& lent) {
  return static_cast<const std::byte*>(lent.data) + lent.byte_offset;
}

// Where a copy lies, and torch's storage over it.
struct StagedStorages::Home {
  // What it lies in: a buffer, or a segment of shared memory. Null when torch has
  // moved the storage into memory of its own.
  std::shared_ptr<const void> memory;
  std::byte* address = nullptr;
  nb::object storage;
  std::weak_ptr<const void> there;  // held by torch while its storage lies there
};

// A tensor that was given out and may be again: see result_of.
struct StagedStorages::Result {
  nb::object tensor;
  std::uint64_t fingerprint = 0;
};

// A tensor over a copy. Results are aliases of it.
struct StagedStorages::View {
  bool fits(const dlpack::Tensor& lent, PyObject* x) const {
    return data == data_of(lent) && is_same_type(type, lent.dtype) && geometry == lent &&
           (!is_ambiguous(type) || dtype_object(x).is(dtype));
  }

  const std::byte* data = nullptr;  // in the source
  nb::object tensor;
  dlpack::DataType type{};
  Geometry geometry;
  nb::object dtype;
  std::uint64_t call = 0;
  // Two: that of the last call is often alive while the next is made.
  std::array<Result, 2> results;
};

struct StagedStorages::Staged {
  PyObject* source = nullptr;  // alive as long as the entry
  const void* id = nullptr;    // who it is to Peek; null without
  nb::object weak;             // to the source
  std::uint64_t nbytes = 0;
  const std::byte* from = nullptr;
  bool is_host = true;
  Home home;
  std::uint64_t made = 0;    // in which call
  std::uint64_t call = 0;    // in which a copy was asked for last
  std::uint64_t looked = 0;  // at which moves_ `is_result` was found out
  bool is_result = false;    // its bytes are those of a copy of ours
  std::vector<View> views;
};

// What the last call met in which place, so that the same state finds its
// entries without looking for them.
struct StagedStorages::Expected {
  Staged* staged = nullptr;
  std::size_t view = 0;
  std::uint64_t looks = 0;  // as Peek saw the tensor; 0 where it must not
  // Only ever fetched: they may be gone.
  const void *tensor = nullptr, *tensor_handle = nullptr, *result = nullptr,
             *result_handle = nullptr;
};

struct StagedStorages::Pending {
  ByteCopy copy;
  nb::object source;  // keeps the entry, too
  Staged* staged;
  bool is_new;  // no result of an earlier call lies over it
  std::shared_ptr<const void> memory;
};

struct StagedStorages::Undo {
  std::byte* at;
  std::shared_ptr<const Buffer> before;
};

}  // namespace understudy::python
