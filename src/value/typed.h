// The closed list of types that the kind `typed` may name.
#pragma once

#include <string_view>

#include "understudy/value.h"

namespace understudy::value {

struct TypedRule {
  std::string_view name;
  bool is_hashable = false;  ///< may be the key of a dict and a member of a set
  bool is_class = false;     ///< of the user's: the extra names it, and nothing imports it
};

/// Null for a name that is not on the list.
const TypedRule* find_typed(std::string_view name) noexcept;

/// The rule of a node; null for one that is not typed.
const TypedRule* typed_rule(const Value& node) noexcept;

}  // namespace understudy::value
