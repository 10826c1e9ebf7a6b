// The text of an index of several shards, and the tree in it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "ranks/index_text.h"
#include "ranks/state_parts.h"
#include "understudy/error.h"

using namespace understudy;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> files{"0", "1", "2"};
  try {
    const auto index = ranks::read_step_index(text, files, "fuzz");
    // What was taken can be written and read again.
    const auto again = ranks::read_step_index(ranks::write_step_index(index), files, "fuzz");
    if (again.chunks.tensors.size() != index.chunks.tensors.size()) std::abort();
    ranks::decode_skeleton(index.skeleton, "fuzz");
  } catch (const Error&) {
  }
  return 0;
}
