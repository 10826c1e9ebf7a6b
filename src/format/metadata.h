// User metadata of a step: a Value of JSON types, and its text in the manifest.
#pragma once

#include <string>
#include <string_view>

#include "understudy/value.h"

namespace understudy {

/// Compact JSON; NaN and infinities as {"understudy.float": "nan"}, "inf" or "-inf".
/// Throws Error(invalid), with the path, for what JSON cannot say: bytes, tensors,
/// keys that are not text.
std::string metadata_to_json(const Value& metadata);

/// The other way. `json` has been read from a manifest that was checked.
Value metadata_from_json(std::string_view json);

}  // namespace understudy
