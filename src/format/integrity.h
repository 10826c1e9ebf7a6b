// Integrity of a file of ours: reserved metadata keys, one XXH3-64 for each
// block of the data section, and one XXH3-128 over the whole header.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/safetensors.h"

namespace understudy::format {

/// Bytes of data under one checksum. Part of the format.
inline constexpr std::uint64_t kBlockNbytes = std::uint64_t{4} << 20;

// Reserved metadata keys. Any of them without the others is damage.
inline constexpr std::string_view kVersionKey = "understudy.format";  // "1.0"
inline constexpr std::string_view kTreeKey = "understudy.tree";
inline constexpr std::string_view kChecksumsKey = "understudy.checksums";  // 16 hex digits a block
inline constexpr std::string_view kDigestKey = "understudy.digest";        // 32 hex digits

/// Keys and entry names that begin so are ours.
inline constexpr std::string_view kReservedPrefix = "understudy.";

/// Blocks of a data section; 0 for an empty one.
constexpr std::uint64_t block_count(std::uint64_t data_nbytes) noexcept {
  return data_nbytes / kBlockNbytes + (data_nbytes % kBlockNbytes != 0);
}

/// What a file of ours says of itself.
struct Integrity {
  int major = 0;
  int minor = 0;
  std::string tree;
  std::vector<std::uint64_t> checksums;  ///< one a block
  std::string digest;
};

/// Recomputes the header's digest and takes the reserved keys apart. Nothing
/// for a file without any of them, and for one that another tool has written with
/// them copied along: they tell of the file that was. `header` is the whole header, prefix
/// included. Throws Error(corrupt) for damage, Error(unsupported) for an
/// unknown major version.
std::optional<Integrity> read_integrity(std::span<const std::byte> header, const Header& parsed,
                                        std::string_view file);

/// Writes a whole header of exactly `capacity` bytes (prefix included, padded
/// with spaces): `metadata` and the reserved keys, then the entries; the digest
/// is filled in last. Throws Error(invalid) when it does not fit. Returns the
/// digest in `digest`.
std::vector<std::byte> write_sealed_header(
    std::span<const Entry> entries, std::span<const std::pair<std::string, std::string>> metadata,
    std::string_view tree, std::span<const std::uint64_t> checksums, std::uint64_t capacity,
    std::string& digest);

/// Bytes of a sealed header without its padding: what write_sealed_header needs
/// for entries whose JSON takes `entries_nbytes` and a tree that takes
/// `tree_nbytes` as a JSON string.
std::uint64_t sealed_header_nbytes(std::uint64_t entries_nbytes,
                                   std::span<const std::pair<std::string, std::string>> metadata,
                                   std::uint64_t tree_nbytes, std::uint64_t data_nbytes);

}  // namespace understudy::format
