#include <bit>
#include <cstring>

#include "format/header_writer.h"
#include "format/text.h"
#include "format/tree_frame.h"
#include "format/tree_rules.h"

namespace understudy::format {
namespace {

using Type = Value::Type;
using Kind = Value::Kind;

bool is_dropped(const TreeFrame& frame) {
  return frame.mode == Mode::drop;
}

Value pickled(TreeFrame& frame, std::string bytes) {
  return Value(Opaque{std::move(frame.type_name), nullptr,
                      std::make_shared<const std::string>(std::move(bytes)), nullptr});
}

Value::Type type_of(Blob::Type type) {
  switch (type) {
    case Blob::Type::text: return Type::text;
    case Blob::Type::bytes: return Type::bytes;
    case Blob::Type::pickle: return Type::opaque;
    case Blob::Type::integers:
    case Blob::Type::floats: return Type::list;
  }
  return Type::none;
}

template <class T>
Value numbers(const std::string& bytes) {
  Value::Items items;
  items.reserve(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    T number;
    std::memcpy(&number, bytes.data() + i, sizeof number);
    items.emplace_back(number);
  }
  return Value::list(std::move(items));
}

}  // namespace

// The value of a frame whose array has ended.
TreeResult FrameCloser::close(TreeFrame& frame) {
  const auto n = frame.count;
  switch (frame.tag) {
    case Tag::floating:
      require(n == 2);
      return {Value(std::bit_cast<double>(frame.bits[0])), Type::floating, is_dropped(frame)};
    case Tag::complex:
      require(n == 3);
      return {Value(std::complex(std::bit_cast<double>(frame.bits[0]),
                                 std::bit_cast<double>(frame.bits[1]))),
              Type::complex, is_dropped(frame)};
    case Tag::bytes:
      require(n == 2);
      return {Value::bytes(std::move(frame.bytes)), Type::bytes, is_dropped(frame)};
    case Tag::list: return {Value::list(std::move(frame.items)), Type::list, is_dropped(frame)};
    case Tag::tuple: return {Value::tuple(std::move(frame.items)), Type::tuple, is_dropped(frame)};
    case Tag::dict: return close_dict(frame);
    case Tag::tensor: return close_tensor(frame);
    case Tag::blob: return close_blob(frame);
    case Tag::pickle:
      require(n == 3 && !frame.is_inline);
      return {pickled(frame, std::move(frame.bytes)), Type::opaque, is_dropped(frame)};
    case Tag::opaque: return close_opaque(frame);
    case Tag::kind: return close_kind(frame);
    case Tag::open:
    case Tag::dims: break;
  }
  errors_.refuse("an empty array");
}

void FrameCloser::require(bool is_whole) const {
  if (!is_whole) errors_.refuse("the end of an array");
}

TreeResult FrameCloser::close_dict(TreeFrame& frame) const {
  require(frame.count % 2 == 1);
  check_keys(frame.pairs);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < frame.pairs.size(); ++i) {
    if (!frame.is_kept[i]) continue;
    if (kept != i) frame.pairs[kept] = std::move(frame.pairs[i]);
    ++kept;
  }
  frame.pairs.resize(kept);
  return {Value::dict(std::move(frame.pairs)), Type::dict, is_dropped(frame)};
}

// Plain text, the common case, is compared as it is; the rest as it is written.
void FrameCloser::check_keys(const Value::Pairs& pairs) const {
  std::vector<std::string_view> texts;
  std::vector<std::string> encoded;
  for (const auto& [key, child] : pairs) {
    if (key.type() == Type::text && key.kind() == Kind::plain) {
      texts.push_back(key.as_text());
    } else {
      encoded.push_back(encode_inline(key));
    }
  }
  refuse_duplicate(texts);
  refuse_duplicate({encoded.begin(), encoded.end()});
}

void FrameCloser::refuse_duplicate(const std::vector<std::string_view>& keys) const {
  if (const auto i = find_duplicate(keys); i >= 0) {
    errors_.refuse_form(
        format_text("a dict has the key {} twice", in_quotes(keys[static_cast<std::size_t>(i)])));
  }
}

TreeResult FrameCloser::close_tensor(TreeFrame& frame) const {
  require((frame.count == 1 || frame.count == 5 || frame.count == 9) && !frame.is_inline);
  frame.view.is_entry = frame.count == 1;
  resolve_view(frame.view, entries_, errors_.file);
  if (is_dropped(frame)) return {Value(), Type::tensor, true};
  return {source_.tensor(frame.view), Type::tensor};
}

TreeResult FrameCloser::close_opaque(TreeFrame& frame) {
  require(frame.count == 3 && !frame.is_inline && frame.index == next_opaque_);
  ++next_opaque_;
  if (is_dropped(frame)) return {Value(), Type::opaque, true};
  if (!source_.opaque) errors_.refuse("an object without bytes");
  return {source_.opaque(static_cast<std::uint32_t>(frame.index), frame.type_name), Type::opaque};
}

TreeResult FrameCloser::close_kind(TreeFrame& frame) const {
  require(frame.count == 4);
  const auto problem = kind_problem(frame.kind, frame.extra, frame.node_type, &frame.node);
  if (!problem.empty()) errors_.refuse_form(problem);
  return {frame.node.with_kind(frame.kind, std::move(frame.extra)), frame.node_type,
          is_dropped(frame)};
}

TreeResult FrameCloser::close_blob(TreeFrame& frame) {
  const auto type = frame.blob.type;
  require(frame.count == (type == Blob::Type::pickle ? 4u : 3u) && !frame.is_inline);
  const bool is_list = type == Blob::Type::integers || type == Blob::Type::floats;
  if (is_list && frame.mode == Mode::look) frame.mode = Mode::whole;
  set_leaf(frame);
  const auto& entry = entries_[frame.blob.entry];
  // Each once, else a short tree could ask for the same long bytes for ever.
  if (entry.dtype != "U8" || is_blob_read_[frame.blob.entry]) {
    errors_.refuse_form(
        format_text("entry {} is not the bytes of one leaf", in_quotes(entry.name)));
  }
  is_blob_read_[frame.blob.entry] = true;
  if (is_list && entry.nbytes() % 8 != 0) {
    errors_.refuse_form(format_text("entry {} is not a list of numbers", in_quotes(entry.name)));
  }
  if (is_dropped(frame)) return {Value(), type_of(type), true};
  if (source_.reads_blob && !source_.reads_blob(frame.blob.entry)) {
    auto what =
        format_text("{} of {} bytes", is_list ? "list" : to_string(type_of(type)), entry.nbytes());
    return {Value(Opaque{std::move(what), nullptr, nullptr, nullptr}), type_of(type)};
  }
  return {blob_value(frame, source_.blob(frame.blob.entry)), type_of(type)};
}

Value FrameCloser::blob_value(TreeFrame& frame, std::string bytes) const {
  switch (frame.blob.type) {
    case Blob::Type::text:
      if (!is_utf8(bytes)) {
        errors_.refuse_form(
            format_text("entry {} is not UTF-8 text", in_quotes(entries_[frame.blob.entry].name)));
      }
      return Value(std::move(bytes));
    case Blob::Type::bytes: return Value::bytes(std::move(bytes));
    case Blob::Type::pickle: return pickled(frame, std::move(bytes));
    case Blob::Type::integers: return numbers<std::int64_t>(bytes);
    case Blob::Type::floats: return numbers<double>(bytes);
  }
  return {};
}

}  // namespace understudy::format
