// What a tree may say, the same for encoding and decoding.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "understudy/value.h"

namespace understudy::format {

// Tags: the first item of an array. An array that begins with a number is a
// tensor.
inline constexpr std::string_view kFloatingTag = "f";
inline constexpr std::string_view kComplexTag = "c";
inline constexpr std::string_view kBytesTag = "b";
inline constexpr std::string_view kListTag = "l";
inline constexpr std::string_view kTupleTag = "t";
inline constexpr std::string_view kDictTag = "d";
inline constexpr std::string_view kBlobTag = "B";
inline constexpr std::string_view kPickleTag = "p";
inline constexpr std::string_view kOpaqueTag = "o";
inline constexpr std::string_view kKindTag = "k";

/// The kind with this name; nothing for an unknown one, and for "plain".
std::optional<Value::Kind> kind_from_name(std::string_view name) noexcept;

/// Says what is wrong with `kind` and `extra` over a node of `type`; empty when
/// nothing is. `node` is null where the node's content is not at hand.
std::string kind_problem(Value::Kind kind, const Value& extra, Value::Type type, const Value* node);

/// True when the value may be the key of a dict. Members of sets may be, or
/// hold in a tuple, tensors and opaque objects too.
bool is_hashable(const Value& value, bool in_set = false) noexcept;

/// The encoding of a value without leaves of its own entry: keys and extras.
std::string encode_inline(const Value& value);

}  // namespace understudy::format
