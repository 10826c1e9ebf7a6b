// What the decoder of a tree keeps of one open array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "format/tree.h"
#include "understudy/value.h"

namespace understudy::format {

/// What is not wanted is read with the same care, but makes no tensor and asks
/// for no bytes.
enum class Mode {
  whole,  ///< wanted with all below it
  look,   ///< a dict on the way to something wanted: children are asked about
  drop,   ///< not wanted
};

/// What an array is. Told by its first item, but for dims, which are a shape or
/// strides within a tensor.
enum class Tag {
  open,
  floating,
  complex,
  bytes,
  list,
  tuple,
  dict,
  tensor,
  dims,
  blob,
  pickle,
  opaque,
  kind,
};

struct TreeFrame {
  Tag tag = Tag::open;
  Mode mode = Mode::whole;
  bool is_inline = false;          // in a key or an extra: no leaves
  bool is_root = false;            // the root, or the node of a kind at the root
  int depth = 0;                   // containers around the frame's children
  std::size_t count = 0;           // items so far, the tag among them
  Value::Items items;              // of a list or tuple
  Value::Pairs pairs;              // of a dict, with what is dropped
  std::vector<bool> is_kept;       // of these pairs
  Value key;                       // dict: of the child that comes next
  Mode child_mode = Mode::whole;   // dict: of that child
  std::size_t path_nbytes = 0;     // dict: of the path that leads to it, where there is a selection
  std::uint64_t place_nbytes = 0;  // of the path that leads to the frame, about
  View view;
  Blob blob;
  std::int64_t index = 0;  // opaque
  std::uint64_t bits[2] = {};
  std::string bytes;
  std::string type_name;
  Value::Kind kind = Value::Kind::plain;
  Value extra;
  Value node;               // kind: the node
  Value::Type node_type{};  // kind: its type, although it may be dropped
};

/// What a closed frame or a scalar gives to the frame around it. The type is
/// known even where the value is dropped.
struct TreeResult {
  Value value;
  Value::Type type;
  bool is_dropped = false;
};

/// A leaf that was only looked at is not wanted, unless it is all there is.
inline void set_leaf(TreeFrame& frame) {
  if (frame.mode == Mode::look) frame.mode = frame.is_root ? Mode::whole : Mode::drop;
}

/// Says what is wrong with a tree.
struct TreeErrors {
  std::string_view file;

  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::corrupt, "{}: the tree is damaged: {} where it must not be", file, what);
  }

  [[noreturn]] void refuse_form(std::string_view what) const {
    fail(ErrorCode::corrupt, "{}: the tree is damaged: {}", file, what);
  }
};

/// Makes values of frames whose arrays have ended.
class FrameCloser {
 public:
  FrameCloser(std::span<const Entry> entries, const TreeSource& source, std::string_view file)
      : entries_(entries), source_(source), errors_{file}, is_blob_read_(entries.size()) {}

  TreeResult close(TreeFrame& frame);

 private:
  void require(bool is_whole) const;
  TreeResult close_dict(TreeFrame& frame) const;
  void check_keys(const Value::Pairs& pairs) const;
  void refuse_duplicate(const std::vector<std::string_view>& keys) const;
  TreeResult close_tensor(TreeFrame& frame) const;
  TreeResult close_opaque(TreeFrame& frame);
  TreeResult close_kind(TreeFrame& frame) const;
  TreeResult close_blob(TreeFrame& frame);
  Value blob_value(TreeFrame& frame, std::string bytes) const;

  std::span<const Entry> entries_;
  const TreeSource& source_;
  TreeErrors errors_;
  std::vector<bool> is_blob_read_;
  std::int64_t next_opaque_ = 0;
};

}  // namespace understudy::format
