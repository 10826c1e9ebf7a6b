// Torch tensors over memory of ours.
#pragma once

#include <memory>

#include "frameworks/frameworks.h"
#include "understudy/tensor.h"

namespace understudy::python {

/// A tensor over `data`, whose storage ends with it. `owner` is dropped, on any
/// thread, when the last tensor and storage over it are gone. Strides count
/// elements.
nb::object torch_over(const Torch& torch, void* data, dlpack::DataType type, const Dims& shape,
                      const Dims& strides, std::shared_ptr<const void> owner);

/// An UntypedStorage of exactly these bytes, which cannot be resized. As above.
nb::object storage_over(const Torch& torch, void* data, std::uint64_t nbytes,
                        std::shared_ptr<const void> owner);

nb::object tuple_of(const Dims& dims);

/// A tensor of `dtype` over a torch storage. `offset` counts elements.
/// Not by as_strided: that would leave an autograd view behind.
nb::object torch_view_of(const Torch& torch, nb::handle storage, nb::handle dtype,
                         std::uint64_t offset, const Dims& shape, const Dims& strides);

}  // namespace understudy::python
