// What lies behind a torch storage, which can change while tensors lie over it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "frameworks/frameworks.h"
#include "understudy/tensor.h"

namespace understudy::python {

/// Where the bytes of a storage are, and how many it has now. `resize_` of a storage changes
/// both and no tensor over it: torch's tensors then reach beyond its end.
struct StorageBytes {
  const std::byte* data = nullptr;
  std::uint64_t nbytes = 0;

  bool operator==(const StorageBytes&) const = default;
  /// Whether all that the tensor covers lies within.
  bool hold(const Tensor& tensor) const;
};

/// Of an UntypedStorage.
StorageBytes bytes_of(const Torch& torch, nb::handle storage);

}  // namespace understudy::python
