// The way of a part from the stored chunk, as its bytes lie in a file, into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ranks/chunk.h"

namespace understudy::ranks {

/// The runs of a part: bytes that lie together in the stored chunk and in the wanted one, both of
/// which are dense and in C order. Ascending in both, and all of one length.
class PartRuns {
 public:
  struct Run {
    std::uint64_t from = 0;  ///< where it begins in the bytes of the stored chunk
    std::uint64_t to = 0;    ///< and in those of the wanted one
  };

  /// `part` lies in both and has elements.
  PartRuns(const Chunk& stored, const Chunk& wanted, const Chunk& part, std::uint64_t item_nbytes);

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t run_nbytes() const noexcept { return run_nbytes_; }
  /// The run with that number.
  Run run(std::uint64_t number) const noexcept;
  /// The first run that ends behind `from`, in the stored chunk; count() for none.
  std::uint64_t first_behind(std::uint64_t from) const noexcept;

  /// Of `bytes`, which lie at `from` in the stored chunk, those that belong to the part go to
  /// `wanted`, where the wanted chunk begins in memory.
  void copy(std::uint64_t from, std::span<const std::byte> bytes, std::byte* wanted) const noexcept;

 private:
  struct Dimension {
    std::uint64_t size;  // of the part
    std::uint64_t from_stride, to_stride;
  };

  std::vector<Dimension> outer_;  // that a run does not cover, outermost first
  Run first_;
  std::uint64_t run_nbytes_ = 0;
  std::uint64_t count_ = 1;
};

}  // namespace understudy::ranks
