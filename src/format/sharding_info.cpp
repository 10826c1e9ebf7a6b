#include "format/sharding_info.h"

#include "base/error.h"

namespace understudy::format {
namespace {

// The only version there is.
constexpr const char* kShardingVersion = "1.0";

// In the file's dimensions: a complex number of the file is two of a last dimension, and two 4-bit
// numbers are one element in memory.
Dims in_file(Dims offsets, const Entry& entry) {
  if (entry.dtype == "F4" && !offsets.empty()) offsets.back() *= 2;
  offsets.resize(entry.shape.size(), 0);
  return offsets;
}

std::string dims_text(const Dims& dims) {
  std::string text;
  for (const auto n : dims) text += format_text("{}{}", text.empty() ? "" : ", ", n);
  return "[" + text + "]";
}

}  // namespace

void add_sharding_info(std::vector<std::pair<std::string, std::string>>& metadata,
                       std::span<const Entry> entries, const ChunkOffsets& offsets) {
  std::string text;
  for (const auto& entry : entries) {
    const auto found = offsets.find(entry.name);
    const auto at = in_file(found == offsets.end() ? Dims{} : found->second, entry);
    text += format_text("{}{}: {{\"saved_offsets\": {}}}", text.empty() ? "" : ", ",
                        json_string(entry.name), dims_text(at));
  }
  metadata.emplace_back(kShardingInfoKey, "{" + text + "}");
  metadata.emplace_back(kShardingVersionKey, kShardingVersion);
}

}  // namespace understudy::format
