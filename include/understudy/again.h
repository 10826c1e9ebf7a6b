// Again: a state that was staged before, with other scalars and other bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "understudy/value.h"

namespace understudy {

/// Whether a leaf, or a list of numbers, has bytes of its own in a snapshot: text
/// and bytes over 1 KiB, and plain lists of 128 numbers or more.
bool is_blob(const Value& value);
/// Whether a leaf is what `Again` counts: none, a number, text or bytes, of any
/// kind, and no blob.
bool is_scalar(const Value& value);

/// For callers who can tell, without making a Value of it, that a state has the
/// containers, keys and tensors that it had when it was last staged. Making a Value of ten thousand
/// tensors costs more than copying them.
struct Again {
  std::uint64_t was = 0;  ///< the number that the stage before was given; not 0
  std::uint64_t is = 0;   ///< the number of this one, for the next
  /// Scalars that have changed, ascending. The first of each pair counts scalars
  /// in walk order, from 0; those in keys and extras are none.
  std::vector<std::pair<std::size_t, Value>> scalars;
  /// Tensors that lie elsewhere now, with the same type, shape and strides, ascending:
  /// which, counted in walk order from 0, and where element 0 is.
  std::vector<std::pair<std::size_t, std::byte*>> moves;
  /// Keeps the memory of the tensors until the capture has ended.
  std::shared_ptr<const void> owners;
};

}  // namespace understudy
