// A whole safetensors header of anyone's, prefix included; the file is as long
// as its header says, where it says anything.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "format/integrity.h"
#include "format/safetensors.h"
#include "understudy/error.h"

using namespace understudy;

namespace {

// What was taken must be what a writer could have written.
void check(const format::Header& header) {
  std::uint64_t next = 0;
  for (const auto& entry : header.entries) {
    if (entry.begin != next || entry.end < entry.begin) std::abort();
    if (format::dtype_bits(entry.dtype) == 0) std::abort();
    next = entry.end;
  }
  if (next != header.data_nbytes) std::abort();
  const auto json = format::write_header_json(header.entries, header.metadata);
  if (json.empty()) std::abort();
}

void read(std::span<const std::byte> bytes, std::uint64_t file_nbytes) {
  try {
    const auto header = format::read_header(bytes, file_nbytes, "fuzz");
    check(header);
    format::read_integrity(bytes, header, "fuzz");
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  std::vector<std::byte> sized(bytes.begin(), bytes.end());
  if (size > format::kPrefixNbytes) {
    // The prefix set right, so that what lies behind it is reached.
    for (int i = 0; i < 8; ++i) {
      sized[static_cast<std::size_t>(i)] =
          static_cast<std::byte>((size - format::kPrefixNbytes) >> (8 * i));
    }
  }
  read(sized, size);
  // The size of the data is in the JSON; a few are tried beside the one that
  // the corpus has.
  for (const std::uint64_t data_nbytes : {0, 8, 64, 4096}) read(bytes, size + data_nbytes);
  return 0;
}
