// How the tensors of a state are written so that other people's tools find them.
//
// In memory, and in an image, tensors that share bytes are views of one extent. In a file, each of
// them is an entry by itself, dense and in C order; how they lay in memory is said beside it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "understudy/tensor.h"
#include "value/extents.h"

namespace understudy::value {

/// How a tensor lies in memory, where that is not how it lies in its entry: a view over a run of
/// memory, which it shares with the other tensors of that run.
struct InMemory {
  std::uint32_t run = 0;  ///< counted by first appearance
  std::uint64_t run_nbytes = 0;
  Dims strides;                   ///< in elements
  std::uint64_t byte_offset = 0;  ///< of element 0, in the run

  bool operator==(const InMemory&) const = default;
};

struct FileForm {
  Extents extents;  ///< of the file: those that are written as they lie, and single tensors
  /// For each tensor leaf, in walk order; nothing where it lies in memory as in its entry.
  std::vector<std::optional<InMemory>> in_memory;
};

/// The file form of `tensors`, whose extents are `extents`. An extent is left as it is when
///
/// - one tensor (or several equal ones) covers it in C order,
/// - a tensor over it has the same byte twice (an expanded one),
/// - its tensors, each written by itself, would take more than kMaxGrowth times its bytes, or less
///   than one in kMaxGaps of them.
FileForm file_form(const std::vector<const Tensor*>& tensors, Extents extents);

/// Windows over one buffer are many times the buffer; two or three views of a weight are not.
inline constexpr std::uint64_t kMaxGrowth = 4;
/// Gaps are in memory only. A reader takes no file that asks for more than this times its bytes.
inline constexpr std::uint64_t kMaxGaps = 8;

}  // namespace understudy::value
