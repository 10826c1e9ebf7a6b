#include "format/safetensors.h"

#include <algorithm>
#include <bit>

#include "format/hash.h"
#include "format/header_writer.h"
#include "format/text.h"

namespace understudy::format {
namespace {

struct DTypeBits {
  std::string_view name;
  unsigned bits;
};

constexpr DTypeBits kDTypes[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

// A comma, unless an object was just opened.
void separate(std::string& out) {
  if (out.back() != '{') out += ',';
}

// More are chance only in very long lists: somebody chose the names to collide.
constexpr int kMaxProbes = 64;

// Slower, but no choice of names makes it worse: the text decides among equal
// hashes.
std::ptrdiff_t find_duplicate_by_sorting(const std::vector<std::string_view>& texts,
                                         std::vector<std::uint64_t>& hashes) {
  std::vector<std::size_t> order(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    order[i] = i;
    hashes[i] = hash64(std::as_bytes(std::span(texts[i])));
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return hashes[a] != hashes[b] ? hashes[a] < hashes[b] : texts[a] < texts[b];
  });
  const auto found =
      std::adjacent_find(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return texts[a] == texts[b]; });
  return found == order.end() ? -1 : static_cast<std::ptrdiff_t>(*found);
}

}  // namespace

const std::string* Header::find_metadata(std::string_view key) const noexcept {
  for (const auto& [k, v] : metadata) {
    if (k == key) return &v;
  }
  return nullptr;
}

unsigned dtype_bits(std::string_view dtype) noexcept {
  for (const auto& row : kDTypes) {
    if (row.name == dtype) return row.bits;
  }
  return 0;
}

void append_metadata_pair(std::string& out, std::string_view key, std::string_view value) {
  separate(out);
  append_json_string(out, key);
  out += ':';
  append_json_string(out, value);
}

void append_entries(std::string& out, std::span<const Entry> entries) {
  for (const auto& entry : entries) {
    separate(out);
    append_json_string(out, entry.name);
    out += ":{\"dtype\":\"";
    out += entry.dtype;
    out += "\",\"shape\":[";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) {
      if (i > 0) out += ',';
      append_number(out, entry.shape[i]);
    }
    out += "],\"data_offsets\":[";
    append_number(out, entry.begin);
    out += ',';
    append_number(out, entry.end);
    out += "]}";
  }
  out += '}';
}

std::ptrdiff_t find_duplicate(const std::vector<std::string_view>& texts) {
  // Half empty, so that a probe or two is the rule.
  const auto mask = std::bit_ceil(2 * texts.size() + 1) - 1;
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<std::size_t> slots(mask + 1, kNone);
  std::vector<std::uint64_t> hashes(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    hashes[i] = hash64(std::as_bytes(std::span(texts[i])));
    auto slot = hashes[i] & mask;
    for (int probes = 0; slots[slot] != kNone; slot = (slot + 1) & mask) {
      const auto other = slots[slot];
      if (hashes[other] == hashes[i] && texts[other] == texts[i]) {
        return static_cast<std::ptrdiff_t>(i);
      }
      if (++probes == kMaxProbes) return find_duplicate_by_sorting(texts, hashes);
    }
    slots[slot] = i;
  }
  return -1;
}

std::string write_header_json(std::span<const Entry> entries,
                              std::span<const std::pair<std::string, std::string>> metadata) {
  std::string out = "{";
  if (!metadata.empty()) {
    out += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) append_metadata_pair(out, key, value);
    out += '}';
  }
  append_entries(out, entries);
  return out;
}

}  // namespace understudy::format
