// The safetensors container: one strict reader for everyone's files, and the
// writer of headers. Pure: bytes in, bytes out.
//
//   u64 little-endian N | N bytes of JSON, padded with spaces | data
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace understudy::format {

/// Bytes before the JSON.
inline constexpr std::uint64_t kPrefixNbytes = 8;
/// The format's own limit for N.
inline constexpr std::uint64_t kMaxHeaderNbytes = 100'000'000;
/// Hubs refuse more; so do we, before capture.
inline constexpr std::uint64_t kMaxWrittenHeaderNbytes = 25'000'000;

struct Entry {
  std::string name;
  std::string dtype;  ///< one of the format's names
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< in the data section
  std::uint64_t end = 0;

  std::uint64_t nbytes() const noexcept { return end - begin; }
};

struct Header {
  std::vector<Entry> entries;  ///< ascending by begin (then end, then order in the file)
  std::vector<std::pair<std::string, std::string>> metadata;  ///< in the file's order
  std::uint64_t header_nbytes = 0;  ///< prefix and padding included: where the data begins
  std::uint64_t data_nbytes = 0;

  /// The metadata text under `key`, or null.
  const std::string* find_metadata(std::string_view key) const noexcept;
};

/// Bits of one element of a format dtype; 0 when there is no such dtype.
unsigned dtype_bits(std::string_view dtype) noexcept;

/// Bytes of the whole header (prefix included) from the first 8 bytes of a
/// file of `file_nbytes`. Throws Error(corrupt) naming `file`.
std::uint64_t read_header_nbytes(std::span<const std::byte> prefix, std::uint64_t file_nbytes,
                                 std::string_view file);

/// Reads a whole header (prefix included). `file_nbytes` is the size of the
/// file, which must be exactly what the header says. Refuses all that
/// FORMATS lists: duplicate names, fields twice or unknown, numbers with sign,
/// fraction, exponent or leading zero, holes, overlaps, trailing bytes, depth.
/// Throws Error(corrupt) naming `file`, the entry and the cause.
Header read_header(std::span<const std::byte> header, std::uint64_t file_nbytes,
                   std::string_view file);

/// Appends `text` as a JSON string with its quotes. Throws Error(invalid) when
/// it is not UTF-8.
void append_json_string(std::string& out, std::string_view text);
/// The same by itself.
std::string json_string(std::string_view text);

/// The JSON of a header: `__metadata__` first (when there is any), then the
/// entries in their order. Not padded, without the prefix.
std::string write_header_json(std::span<const Entry> entries,
                              std::span<const std::pair<std::string, std::string>> metadata);

}  // namespace understudy::format
