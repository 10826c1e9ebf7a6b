// torch's stable C functions: what torch promises to answer from version to version.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/common.h"

namespace understudy::python {

/// Found at run time in the library that this process has loaded; none is needed to build. A tensor
/// is a pointer to the word in its Python object that holds torch's own pointer to it.
class StableFunctions {
 public:
  using Handle = const void*;

  /// Nothing in a torch that lacks one of them (before 2.4).
  static std::optional<StableFunctions> find(nb::handle torch_module);

  /// Shape, strides and what fits into words: offset, type, layout, kind of device.
  struct Form {
    std::int64_t dims = 0;
    const std::int64_t *sizes = nullptr, *strides = nullptr;  // `dims` of each, torch's
    std::int64_t offset = 0;                                  // in elements
    std::int32_t dtype = 0, layout = 0, device_type = 0;
  };
  /// False when torch has no answer.
  bool form(Handle tensor, Form& to) const {
    return dim_(tensor, &to.dims) == 0 && sizes_(tensor, &to.sizes) == 0 &&
           strides_(tensor, &to.strides) == 0 && offset_(tensor, &to.offset) == 0 &&
           dtype_(tensor, &to.dtype) == 0 && layout_(tensor, &to.layout) == 0 &&
           device_type_(tensor, &to.device_type) == 0;
  }
  /// Of the tensor's whole storage.
  bool storage_nbytes(Handle tensor, std::int64_t& to) const {
    return storage_size_(tensor, &to) == 0;
  }
  /// Of the tensor's first element.
  bool data(Handle tensor, const void*& to) const { return data_ptr_(tensor, &to) == 0; }

 private:
  template <class T>
  using Ask = std::int32_t (*)(Handle, T*);

  Ask<std::int64_t> dim_, offset_, storage_size_;
  Ask<const std::int64_t*> sizes_, strides_;
  Ask<std::int32_t> dtype_, layout_, device_type_;
  Ask<const void*> data_ptr_;
};

}  // namespace understudy::python
