// The text of a manifest. Its digest is set right first, where it has one, so
// that what lies behind it is reached.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "format/hash.h"
#include "store/manifest.h"
#include "understudy/error.h"

using namespace understudy;

namespace {

constexpr std::string_view kBefore = "\"digest\": \"";
constexpr std::string_view kAfter = "\"\n}\n";
constexpr std::size_t kDigits = 32;

std::string with_digest(std::string text) {
  const auto tail = kDigits + kAfter.size();
  if (text.size() < kBefore.size() + tail || !text.ends_with(kAfter)) return text;
  const auto at = text.size() - tail;
  text.replace(at, kDigits, kDigits, '0');
  return text.replace(at, kDigits, format::hash128_hex(std::as_bytes(std::span(text))));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto& candidate : {text, with_digest(text)}) {
    try {
      const auto manifest = store::read_manifest(candidate, "fuzz");
      // What was taken can be written and read again.
      const auto again = store::read_manifest(store::write_manifest(manifest), "fuzz");
      if (again.step != manifest.step || again.files.size() != manifest.files.size()) std::abort();
    } catch (const Error&) {
    }
  }
  return 0;
}
