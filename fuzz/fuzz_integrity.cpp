// The metadata of a sealed header: the input is the version, the checksums and
// the tree, one a line; the header around them is right and its digest too.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/hash.h"
#include "format/integrity.h"
#include "format/safetensors.h"
#include "understudy/error.h"

using namespace understudy;

namespace {

constexpr std::uint64_t kDataNbytes = 5 << 20;  // two blocks
constexpr std::size_t kDigestOffset = 46;       // as docs/format.md says

std::vector<std::byte> sealed(const std::array<std::string_view, 3>& texts) {
  const std::vector<format::Entry> entries{{"w", "U8", {kDataNbytes}, 0, kDataNbytes}};
  const std::vector<std::pair<std::string, std::string>> metadata{
      {std::string(format::kDigestKey), std::string(32, '0')},
      {std::string(format::kVersionKey), std::string(texts[0])},
      {std::string(format::kChecksumsKey), std::string(texts[1])},
      {std::string(format::kTreeKey), std::string(texts[2])}};
  const auto json = format::write_header_json(entries, metadata);
  std::vector<std::byte> bytes(format::kPrefixNbytes + json.size());
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(json.size() >> (8 * i));
  std::memcpy(bytes.data() + format::kPrefixNbytes, json.data(), json.size());
  const auto digest = format::hash128_hex(bytes);
  std::memcpy(bytes.data() + kDigestOffset, digest.data(), digest.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::array<std::string_view, 3> texts;
  for (auto& text : texts) {
    text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
  }
  try {
    const auto bytes = sealed(texts);
    const auto header = format::read_header(bytes, bytes.size() + kDataNbytes, "fuzz");
    const auto integrity = format::read_integrity(bytes, header, "fuzz");
    if (!integrity || integrity->checksums.size() != 2 || integrity->tree != texts[2]) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
