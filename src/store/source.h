// What the writers write: a header and blocks of data, asked for in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace understudy::store {

/// A safetensors file to be. The writer knows nothing of tensors. Blocks are
/// format::kBlockNbytes of the data section (the last may be shorter); each is
/// asked for once, by any thread, several at a time.
class ShardSource {
 public:
  virtual ~ShardSource() = default;

  virtual std::uint64_t header_nbytes() const = 0;  ///< a multiple of 4096
  virtual std::uint64_t data_nbytes() const = 0;

  /// The bytes of block `index`: either where they lie already, or filled into
  /// `scratch` (4096-aligned, format::kBlockNbytes long). When they lie
  /// already they are 4096-aligned, and readable with zeros up to the next
  /// multiple of 4096.
  virtual std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) = 0;

  /// The XXH3-64 of block `index`, where somebody has taken it already.
  virtual std::optional<std::uint64_t> checksum(std::uint64_t) const { return {}; }

  /// The header, once every block's checksum is known. Called last, once.
  /// 4096-aligned or not. Gives the header's digest in `digest`.
  virtual std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                                      std::string& digest) = 0;
};

}  // namespace understudy::store
