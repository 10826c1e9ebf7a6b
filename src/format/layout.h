// The layout: where each extent goes, how large the whole is, what the header
// says. The same in memory and on disk. A pure function of the state.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/safetensors.h"
#include "format/tree.h"
#include "understudy/value.h"
#include "value/extents.h"

namespace understudy::format {

/// Header and data begin on multiples of this. Part of the format.
inline constexpr std::uint64_t kAlignment = 4096;

struct Layout {
  std::vector<Entry> entries;  ///< ascending by begin
  TreeLeaves leaves;
  /// Tensors that are an entry under another one's name: their own name, and that. Files say it in
  /// the header's metadata, as safetensors does of tied weights.
  std::vector<std::pair<std::string, std::string>> tied;
  /// For each extent, in the order of value::Extents: where it begins.
  std::vector<std::uint64_t> extent_offsets;
  /// For each blob, in walk order: where it begins.
  std::vector<std::uint64_t> blob_offsets;
  std::uint64_t entries_nbytes = 0;  ///< of the entries as JSON
  std::uint64_t header_nbytes = 0;   ///< capacity, a multiple of kAlignment
  std::uint64_t data_nbytes = 0;

  std::uint64_t file_nbytes() const noexcept { return header_nbytes + data_nbytes; }
};

/// Lays out `state`, whose tensors were gathered into `extents`. `metadata` is
/// what the caller wants in the header (it counts for the capacity; reserved
/// keys are Error(invalid)). Throws Error(unsupported) when the header would
/// exceed kMaxWrittenHeaderNbytes. `in_memory`, where given, has an item for each tensor leaf
/// (value::FileForm).
///
/// Order: by descending alignment, then first appearance. Names: the tensor's
/// path for a tensor that covers its extent densely in C order, else
/// `understudy.extent.<i>`; blobs are `understudy.blob.<i>`. A path that is
/// reserved, empty, or taken gets `#2`, `#3`... appended.
Layout make_layout(const Value& state, const value::Extents& extents,
                   const std::vector<std::pair<std::string, std::string>>& metadata,
                   std::span<const std::optional<value::InMemory>> in_memory = {});

/// The header bytes that a layout of these entries reserves for this tree and
/// metadata: room for twice the tree.
std::uint64_t header_capacity(const Layout& layout, std::string_view tree,
                              const std::vector<std::pair<std::string, std::string>>& metadata);

/// True when a header with this tree still fits the layout's capacity.
bool fits(const Layout& layout, std::string_view tree,
          const std::vector<std::pair<std::string, std::string>>& metadata);

}  // namespace understudy::format
