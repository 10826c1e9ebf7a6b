#include "store/weight_index.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "format/safetensors.h"

namespace understudy::store {

namespace {

// As much as a header of the format may have: an index names the same tensors.
constexpr std::uint64_t kMaxIndexNbytes = format::kMaxHeaderNbytes;

bool is_plain_name(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> read_weight_index(const os::File& file) {
  const std::uint64_t nbytes = file.size();
  if (nbytes > kMaxIndexNbytes) {
    fail(ErrorCode::corrupt, "{} has {} bytes; no index has more than {}", file.name(), nbytes,
         kMaxIndexNbytes);
  }
  std::string text(static_cast<std::size_t>(nbytes), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  const auto json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    fail(ErrorCode::corrupt, "{} has no weight_map", file.name());
  }
  std::vector<std::pair<std::string, std::string>> index;
  for (const auto& [name, value] : json["weight_map"].items()) {
    if (!value.is_string() || !is_plain_name(value.get<std::string>())) {
      fail(ErrorCode::corrupt, "{} gives the tensor '{}' no safetensors file of its folder",
           file.name(), name);
    }
    index.emplace_back(name, value.get<std::string>());
  }
  return index;
}

}  // namespace understudy::store
