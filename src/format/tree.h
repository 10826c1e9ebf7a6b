// The tree codec: a Value without its tensor bytes, as one line of JSON.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/safetensors.h"
#include "understudy/value.h"
#include "value/file_form.h"

namespace understudy::format {

/// A tensor leaf over an entry of the file.
struct View {
  std::uint32_t entry = 0;  ///< index into the header's entries, ascending by begin
  /// The tensor is the entry: same dtype, shape, C order. Then the rest need
  /// not be written.
  bool is_entry = false;
  DType dtype = DType::u8;
  Dims shape;
  Dims strides;                   ///< in elements
  std::uint64_t byte_offset = 0;  ///< of element 0, in the entry
  /// How it lay in memory, if otherwise. Then it is the whole entry in C order.
  std::optional<value::InMemory> in_memory;
};

/// A leaf whose bytes are an entry of their own: long text, bytes, pickles and
/// long lists of numbers.
struct Blob {
  enum class Type : std::uint8_t { text, bytes, pickle, integers, floats };
  std::uint32_t entry = 0;
  Type type = Type::text;
};

/// What stands for the leaves that are not written into the tree. Leaves come
/// in the order of value::walk.
struct TreeLeaves {
  std::vector<View> views;  ///< one for each tensor
  /// One for each blob in order; `is_blob` tells which leaves are blobs.
  std::vector<Blob> blobs;
};

/// True when a leaf (or a list of numbers) is kept in an entry of its own:
/// text, bytes and pickles over 1024 bytes; plain lists of at least 128 items
/// that are all plain integers, or all plain floats.
bool is_blob(const Value& value, Blob::Type& type);
/// The bytes of a blob. Numbers are 8 bytes each, little-endian.
std::string blob_bytes(const Value& value);
/// Their number.
std::uint64_t blob_nbytes(const Value& value);

/// Where a part of the tree is written.
struct Span {
  std::size_t begin = 0;
  std::size_t nbytes = 0;
};

/// Encodes `state`. Opaque leaves without a pickle become ["o",i,type_name]
/// with i counting them from 0 (only in memory; a file refuses them earlier).
/// Throws Error(invalid), naming the path, for what decode_tree would not take
/// back: text that is not UTF-8, dict keys that are equal or cannot be hashed,
/// a kind over another type than its own. The text is one canonical form: equal
/// states give equal trees. `scalars` gets the place of each scalar, in walk order.
std::string encode_tree(const Value& state, const TreeLeaves& leaves,
                        std::vector<Span>* scalars = nullptr);

/// Writes others in place of some scalars, ascending by index, and moves
/// `scalars` along. What encode_tree would give for that state. Throws as it does,
/// then nothing has changed.
void exchange_scalars(std::string& tree, std::vector<Span>& scalars,
                      std::span<const std::pair<std::size_t, Value>> others);

/// Whether an encoded tree has forms that came after version 1.0 of the format: tensors over a run
/// of memory, and the kinds `long_integer` and `typed`.
bool has_new_forms(std::string_view tree) noexcept;

/// Fills in the dtype, shape and strides that `is_entry` leaves out, and checks
/// that the view lies within its entry, and within its run of memory if it has one.
/// Throws Error(corrupt) when it does not,
/// Error(unsupported) for an entry that no tensor can be (6-bit floats).
void resolve_view(View& view, std::span<const Entry> entries, std::string_view file);

/// How leaves come back.
struct TreeSource {
  /// Makes the tensor of a view, which has been resolved: dtype, shape, strides
  /// and byte_offset are filled in and lie within the entry.
  std::function<Value(const View&)> tensor;
  /// The bytes of an entry. Asked at most once for each.
  std::function<std::string(std::uint32_t entry)> blob;
  /// False for an entry that shall not be read: its leaf becomes an opaque one
  /// whose type name says what it is ("text of 5 bytes"). Null: all are read.
  std::function<bool(std::uint32_t entry)> reads_blob;
  /// The i-th opaque object; null: there must be none.
  std::function<Value(std::uint32_t index, const std::string& type_name)> opaque;
  /// Says whether the subtree at this path is wanted at all; null: everything.
  /// Asked for dict children only (with the path of the child, keys joined by
  /// '.'), from the root down as long as the answer is 1. 0: drop it. 1: look at
  /// its children, if it is a dict; a list or tuple is taken whole, any other
  /// leaf is dropped. 2: take it whole. What is dropped is checked, but asks for
  /// no tensor and no blob. A root that is no dict is taken whole.
  std::function<int(const std::string& path)> select;
};

/// Decodes what encode_tree wrote over the entries of its file, ascending by
/// begin. Strict: anything else is Error(corrupt) naming `file`. Never recurses,
/// never nests deeper than kMaxDepth, and never allocates more than a small
/// multiple of the text's length, and of the blobs, each of which is read once.
Value decode_tree(std::string_view text, std::span<const Entry> entries, const TreeSource& source,
                  std::string_view file);

}  // namespace understudy::format
