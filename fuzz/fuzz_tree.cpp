// The text of a tree over a few entries. The first byte chooses what is
// selected.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "format/tree.h"
#include "understudy/error.h"
#include "value/walk.h"

using namespace understudy;

namespace {

const std::vector<format::Entry>& entries() {
  static const std::vector<format::Entry> kEntries{
      {"w", "F32", {2, 3}, 0, 24},    {"e", "I64", {0}, 24, 24},  {"p", "F4", {4}, 24, 26},
      {"u", "U8", {6}, 26, 32},       {"b0", "U8", {16}, 32, 48}, {"b1", "U8", {16}, 48, 64},
      {"six", "F6_E2M3", {4}, 64, 67}};
  return kEntries;
}

format::TreeSource source_of(std::uint8_t choice) {
  format::TreeSource source;
  source.tensor = [](const format::View& view) {
    // A view that was let through must be a tensor that exists.
    const auto nbytes = entries()[view.entry].nbytes();
    const auto storage = std::make_shared<Storage>(nullptr, nbytes, nullptr);
    return Value(Tensor(storage, view.dtype, view.shape, view.strides, view.byte_offset));
  };
  source.blob = [](std::uint32_t entry) { return std::string(entries()[entry].nbytes(), 'x'); };
  source.opaque = [](std::uint32_t, const std::string& type_name) {
    return Value(Opaque{type_name, nullptr, nullptr, nullptr});
  };
  if (choice % 2 != 0) {
    source.select = [choice](const std::string& path) {
      return static_cast<int>((path.size() + choice) % 3);
    };
  }
  return source;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto source = source_of(data[0]);
  Value state;
  try {
    state = format::decode_tree(text, entries(), source, "fuzz");
  } catch (const Error& error) {
    // Only the file can be at fault here.
    if (error.code() == ErrorCode::invalid) std::abort();
    return 0;
  }
  // What was taken can be walked.
  std::size_t nodes = 0;
  value::walk(state, [&](const value::Path&, const Value&) { return ++nodes > 0; });
  if (nodes == 0) std::abort();
  return 0;
}
