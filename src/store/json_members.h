// Taking a JSON object apart, strictly: no duplicate keys at any depth.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace understudy::store {

/// The members of the object `text`, in its order, each value as compact JSON;
/// numbers keep their digits. Throws Error(corrupt) naming `file`.
std::vector<std::pair<std::string, std::string>> split_json_object(std::string_view text,
                                                                   std::string_view file);

}  // namespace understudy::store
