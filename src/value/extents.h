// Extents: the runs of bytes that tensors really use.
//
// Tensors that share a byte share an extent. An extent is cut where no tensor
// reads; a strided tensor that uses less than half of its span is gathered, so
// that a one-row view of a large storage costs one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "understudy/value.h"

namespace understudy::value {

/// Equal runs of bytes, repeated over up to a few dimensions: the only form in
/// which bytes are copied. Byte j of run (i0, i1, ...) lies at
/// source + sum(ik * source_strides[k]) + j, and likewise at the destination.
struct Copy {
  std::byte* source = nullptr;    ///< address of the first run
  std::uint64_t destination = 0;  ///< offset of the first run in its extent
  std::uint64_t run_nbytes = 0;
  // Outermost first; empty for one run. Destination strides are positive, and
  // runs ascend at the destination in C order.
  std::vector<std::int64_t> counts;
  std::vector<std::int64_t> source_strides;  ///< in bytes
  std::vector<std::int64_t> destination_strides;
};

struct Extent {
  std::uint64_t nbytes = 0;     ///< in the file; a multiple of alignment unless is_dense
  std::uint32_t alignment = 1;  ///< 1, 2, 4, 8 or 16: largest item size over it
  bool has_gaps = false;        ///< copies do not cover it: the rest is zero
  std::vector<Copy> copies;
};

/// How one tensor leaf lies in its extent.
struct Placement {
  std::uint32_t extent = 0;
  bool covers = false;            ///< covers the whole extent densely in C order
  std::uint64_t byte_offset = 0;  ///< of element 0
  Dims strides;                   ///< in elements of the tensor
};

struct Extents {
  std::vector<Extent> extents;
  std::vector<Placement> placements;  ///< one for each tensor leaf, in walk order
};

/// Finds the extents of `tensors` (the tensor leaves in walk order). An empty
/// tensor gets an extent of no bytes to itself.
Extents find_extents(const std::vector<const Tensor*>& tensors);

}  // namespace understudy::value
