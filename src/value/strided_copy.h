// Copies between layouts of memory: the only place where single elements are copied.
#pragma once

#include <cstddef>
#include <cstdint>

#include "understudy/tensor.h"

namespace understudy::value {

/// One dimension of a copy; strides in bytes.
struct CopyDim {
  std::int64_t count = 0;
  std::int64_t from_stride = 0;
  std::int64_t to_stride = 0;
};

/// Copies items of `item_nbytes` (1, 2, 4, 8 or 16) over two dimensions, a tile at a time, so that
/// whole cache lines are read and written even where one side is transposed.
void copy_items(std::uint64_t item_nbytes, const std::byte* from, std::byte* to,
                const CopyDim& outer, const CopyDim& inner);

/// Copies the elements of `from` to those of `to`, which has the same dtype and shape. Bytes that
/// `to` has twice get any of what goes there.
void copy_strided(const Tensor& from, const Tensor& to);

}  // namespace understudy::value
