// Where the tensors of a plan lie, and may lie instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "understudy/value.h"
#include "value/coverage.h"
#include "value/extents.h"

namespace understudy::stage {

/// A tensor leaf, counted in walk order, and where its element 0 lies now.
using Move = std::pair<std::size_t, std::byte*>;

/// A tensor that shares its bytes with no other can be copied from elsewhere by
/// the same plan: the extents of the state are the same.
class Places {
 public:
  /// `tensors` in walk order, and their extents.
  Places(const std::vector<const Tensor*>& tensors, const value::Extents& extents);

  const std::byte* address(std::size_t leaf) const { return leaves_[leaf].address; }

  struct Moved {
    std::uint32_t extent = 0;
    std::ptrdiff_t by_nbytes = 0;
    std::uint64_t nbytes = 0;  ///< from its first byte to its last
  };
  /// One for each of `moves` if all are of such tensors, here and there; then they
  /// lie there. Nothing: nothing has changed.
  std::optional<std::vector<Moved>> move(std::span<const Move> moves);

 private:
  struct Leaf {
    std::byte* address;
    std::uint32_t extent;
  };
  // From the first byte to the last of one extent; empty for no bytes.
  struct Span {
    value::Interval bytes{};
    std::uint32_t tensors = 0;
    bool is_moved = false;
  };
  static bool are_apart(std::vector<Span> spans);

  std::vector<Leaf> leaves_;
  std::vector<Span> spans_;  // by extent
};

}  // namespace understudy::stage
