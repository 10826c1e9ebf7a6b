// What a tree may say, the same for encoding and decoding.
#pragma once

#include <cstdint>
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

/// Says what is wrong with the extra of a typed node: a name that is not on the list
/// (value/typed.h), or a class where none belongs. Empty when nothing is.
std::string typed_problem(const Value& extra);

/// All paths of a tree together have at most so many bytes: whoever names every
/// node then knows what that takes. A tree's text is less than 25 MB, and a hundred
/// times that is more than any state has whose names are its own.
inline constexpr std::uint64_t kMaxPathsNbytes = std::uint64_t{1} << 30;

/// An index in a path counts as so many.
inline constexpr std::uint64_t kIndexNbytes = 8;

/// Counts them.
class PathsNbytes {
 public:
  /// A node under `key_nbytes` more bytes than its container. False when it is too much.
  [[nodiscard]] bool add(std::uint64_t container_nbytes, std::uint64_t key_nbytes) noexcept {
    nbytes_ += container_nbytes + key_nbytes;
    return nbytes_ <= kMaxPathsNbytes;
  }

 private:
  std::uint64_t nbytes_ = 0;
};

/// True when the value may be the key of a dict. Members of sets may be, or
/// hold in a tuple, tensors and opaque objects too.
bool is_hashable(const Value& value, bool in_set = false) noexcept;

/// The encoding of a value without leaves of its own entry: keys and extras.
std::string encode_inline(const Value& value);

}  // namespace understudy::format
