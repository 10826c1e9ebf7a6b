// A sealed header begins, always, with
//
//   N | {"__metadata__":{"understudy.digest":"<32 digits>","understudy.format":"1.0",...
//
// so the digest's digits lie at one place, and nobody has to search for them.
#include "format/integrity.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "format/hash.h"
#include "format/header_writer.h"
#include "format/layout.h"
#include "format/text.h"
#include "format/tree.h"

namespace understudy::format {
namespace {

constexpr std::string_view kOpening = "{\"__metadata__\":{\"understudy.digest\":\"";
constexpr std::size_t kDigestNbytes = 32;
constexpr std::size_t kDigestOffset = kPrefixNbytes + kOpening.size();
constexpr int kMajor = 1;
// The version without the forms that came after it, and with them.
constexpr std::string_view kVersion = "1.0";
constexpr std::string_view kVersionOfNewForms = "1.1";

bool is_hex(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return hex_digit_value(c) >= 0; });
}

// A plain number of at most 4 digits that moves `text` on; -1 for anything else.
int take_number(std::string_view& text) noexcept {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto n = static_cast<std::size_t>(end - text.data());
  const bool is_plain =
      error == std::errc() && n <= 4 && text[0] != '-' && (n == 1 || text[0] != '0');
  text.remove_prefix(n);
  return is_plain ? value : -1;
}

void read_version(std::string_view text, Integrity& integrity, std::string_view file) {
  std::string_view rest = text;
  integrity.major = take_number(rest);
  const bool has_dot = rest.starts_with('.');
  if (has_dot) rest.remove_prefix(1);
  integrity.minor = has_dot ? take_number(rest) : -1;
  if (integrity.major < 0 || integrity.minor < 0 || !rest.empty()) {
    fail(ErrorCode::corrupt, "{}: {} is {}, which is not a version", file, kVersionKey,
         in_quotes(text));
  }
  if (integrity.major != kMajor) {
    fail(ErrorCode::unsupported, "{}: format version {} is not one that this build reads ({}.x)",
         file, text, kMajor);
  }
}

void check_digest(std::span<const std::byte> header, const std::string& digest,
                  std::string_view file) {
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  if (digest.size() != kDigestNbytes || !is_hex(digest) ||
      text.size() < kDigestOffset + kDigestNbytes ||
      text.substr(kPrefixNbytes, kOpening.size()) != kOpening ||
      text.substr(kDigestOffset, kDigestNbytes) != digest) {
    fail(ErrorCode::corrupt, "{}: {} is not 32 digits at byte {}, where it must be", file,
         kDigestKey, kDigestOffset);
  }
  std::vector<std::byte> copy(header.begin(), header.end());
  std::memset(copy.data() + kDigestOffset, '0', kDigestNbytes);
  if (const auto found = hash128_hex(copy); found != digest) {
    fail(ErrorCode::corrupt, "{}: the header is damaged, its digest is {} and should be {}", file,
         found, digest);
  }
}

void read_checksums(std::string_view digits, std::uint64_t data_nbytes, Integrity& integrity,
                    std::string_view file) {
  const auto count = block_count(data_nbytes);
  // Compared by division: the product could overflow.
  if (digits.size() % 16 != 0 || digits.size() / 16 != count) {
    fail(ErrorCode::corrupt, "{}: {} has {} digits where {} blocks of data need 16 each", file,
         kChecksumsKey, digits.size(), count);
  }
  integrity.checksums.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (!parse_hex64(digits.substr(i * 16, 16), integrity.checksums[i])) {
      fail(ErrorCode::corrupt, "{}: checksum {} in {} is not 16 hex digits", file, i,
           kChecksumsKey);
    }
  }
}

/// True for a header that another tool has written, our metadata copied along: it
/// has another length than ours ever have, or another order. No bit that flips in a
/// file of ours does either: a length that differs does not fit the file's size any
/// more, and nothing moves.
bool is_rewritten(std::span<const std::byte> header, const Header& parsed) {
  if (header.size() % kAlignment != 0) return true;
  return parsed.find_metadata(kDigestKey) != nullptr && parsed.metadata.front().first != kDigestKey;
}

}  // namespace

void refuse_metadata(std::span<const std::pair<std::string, std::string>> metadata) {
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (std::string_view(key).starts_with(kReservedPrefix)) {
      fail(ErrorCode::invalid, "the metadata key {} is reserved: it begins with '{}'",
           in_quotes(key), kReservedPrefix);
    }
    keys.push_back(key);
  }
  if (const auto i = find_duplicate(keys); i >= 0) {
    fail(ErrorCode::invalid, "the metadata key {} is given twice",
         in_quotes(keys[static_cast<std::size_t>(i)]));
  }
}

std::optional<Integrity> read_integrity(std::span<const std::byte> header, const Header& parsed,
                                        std::string_view file) {
  const std::string_view keys[] = {kDigestKey, kVersionKey, kChecksumsKey, kTreeKey};
  const std::string* texts[4] = {};
  std::string_view missing;
  std::string_view found;
  for (int i = 0; i < 4; ++i) {
    texts[i] = parsed.find_metadata(keys[i]);
    (texts[i] != nullptr ? found : missing) = keys[i];
  }
  if (found.empty()) return {};
  if (!missing.empty()) {
    if (is_rewritten(header, parsed)) return {};
    fail(ErrorCode::corrupt, "{}: the header has {} but not {}", file, found, missing);
  }
  Integrity integrity;
  read_version(*texts[1], integrity, file);
  try {
    check_digest(header, *texts[0], file);
  } catch (const Error&) {
    if (is_rewritten(header, parsed)) return {};
    throw;
  }
  read_checksums(*texts[2], parsed.data_nbytes, integrity, file);
  integrity.digest = *texts[0];
  integrity.tree = *texts[3];
  return integrity;
}

std::vector<std::byte> write_sealed_header(
    std::span<const Entry> entries, std::span<const std::pair<std::string, std::string>> metadata,
    std::string_view tree, std::span<const std::uint64_t> checksums, std::uint64_t capacity,
    std::string& digest) {
  refuse_metadata(metadata);
  std::string out(kPrefixNbytes, '\0');
  out.reserve(capacity);
  out += kOpening;
  out.append(kDigestNbytes, '0');
  out += '"';
  append_metadata_pair(out, kVersionKey, has_new_forms(tree) ? kVersionOfNewForms : kVersion);
  for (const auto& [key, value] : metadata) append_metadata_pair(out, key, value);
  std::string digits;
  digits.reserve(checksums.size() * 16);
  for (const auto checksum : checksums) digits += hex64(checksum);
  append_metadata_pair(out, kChecksumsKey, digits);
  append_metadata_pair(out, kTreeKey, tree);
  out += '}';
  append_entries(out, entries);
  if (out.size() > capacity) {
    fail(ErrorCode::invalid, "the header needs {} bytes and the layout left {} for it", out.size(),
         capacity);
  }
  if (capacity - kPrefixNbytes > kMaxHeaderNbytes) {
    fail(ErrorCode::invalid, "a header of {} bytes exceeds the format's limit of {}", capacity,
         kMaxHeaderNbytes);
  }
  out.resize(capacity, ' ');
  const std::uint64_t n = capacity - kPrefixNbytes;
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(n >> (8 * i));

  std::vector<std::byte> header(capacity);
  std::memcpy(header.data(), out.data(), capacity);
  digest = hash128_hex(header);
  std::memcpy(header.data() + kDigestOffset, digest.data(), kDigestNbytes);
  return header;
}

std::uint64_t sealed_header_nbytes(std::uint64_t entries_nbytes,
                                   std::span<const std::pair<std::string, std::string>> metadata,
                                   std::uint64_t tree_nbytes, std::uint64_t data_nbytes) {
  // ,"key":"value" around each pair; the version stands for itself.
  const auto pair_nbytes = [](std::string_view key, std::uint64_t value) {
    return 1 + json_string_nbytes(key) + 1 + value;
  };
  std::uint64_t nbytes = kPrefixNbytes + kOpening.size() + kDigestNbytes + 1;
  nbytes += pair_nbytes(kVersionKey, json_string_nbytes(kVersion));
  for (const auto& [key, value] : metadata) nbytes += pair_nbytes(key, json_string_nbytes(value));
  nbytes += pair_nbytes(kChecksumsKey, block_count(data_nbytes) * 16 + 2);
  nbytes += pair_nbytes(kTreeKey, tree_nbytes);
  // The brace that closes the metadata, and the comma that entries bring along.
  return nbytes + 1 + entries_nbytes;
}

}  // namespace understudy::format
