// The decoder is a stack of frames, one for each open array. The parser tells
// of one thing after the other; each goes to the frame on top, which knows by
// its tag and by how many items it has what may come next.
#include <limits>
#include <nlohmann/json.hpp>

#include "format/hash.h"
#include "format/text.h"
#include "format/tree.h"
#include "format/tree_frame.h"
#include "format/tree_rules.h"
#include "value/walk.h"

namespace understudy::format {
namespace {

using Type = Value::Type;
using Kind = Value::Kind;

class Decoder {
 public:
  using Json = nlohmann::json;

  Decoder(std::span<const Entry> entries, const TreeSource& source, std::string_view file)
      : entries_(entries), source_(source), errors_{file}, closer_(entries, source, file) {}

  Value take() { return std::move(root_); }

  bool null() { return add_scalar(Value()); }
  bool boolean(bool v) { return add_scalar(Value(v)); }

  bool number_unsigned(Json::number_unsigned_t v) {
    if (v > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      errors_.refuse("an integer beyond 64 bits");
    }
    return integer(static_cast<std::int64_t>(v));
  }

  bool number_integer(Json::number_integer_t v) {
    if (v == 0) errors_.refuse("a negative zero");
    return integer(v);
  }

  bool number_float(Json::number_float_t, const std::string&) {
    errors_.refuse("a number that is no integer");
  }
  bool binary(Json::binary_t&) { errors_.refuse("binary data"); }
  bool start_object(std::size_t) { errors_.refuse("an object"); }
  bool key(std::string&) { errors_.refuse("an object"); }
  bool end_object() { errors_.refuse("an object"); }

  bool string(std::string& text) {
    if (stack_.empty()) return add_scalar(Value(std::move(text)));
    auto& top = stack_.back();
    switch (top.tag) {
      case Tag::open: set_tag(top, text); break;
      case Tag::list:
      case Tag::tuple:
      case Tag::dict: return add_scalar(Value(std::move(text)));
      case Tag::kind:
        if (top.count != 1) return add_scalar(Value(std::move(text)));
        set_kind(top, text);
        break;
      default: set_text(top, text);
    }
    ++top.count;
    return true;
  }

  bool start_array(std::size_t) {
    TreeFrame frame;
    if (stack_.empty()) {
      frame.mode = source_.select ? Mode::look : Mode::whole;
      frame.is_root = true;
    } else {
      const auto& top = stack_.back();
      if (top.tag == Tag::tensor && (top.count == 2 || top.count == 3 || top.count == 7)) {
        frame.tag = Tag::dims;
      } else {
        set_up(frame, top);
      }
    }
    stack_.push_back(std::move(frame));
    return true;
  }

  bool end_array() {
    auto frame = std::move(stack_.back());
    stack_.pop_back();
    if (frame.tag == Tag::dims) {
      auto& view = stack_.back().view;
      const auto n = stack_.back().count++;
      (n == 2   ? view.shape
       : n == 3 ? view.strides
                : view.in_memory->strides) = std::move(frame.view.shape);
      return true;
    }
    return add(closer_.close(frame));
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) {
    errors_.refuse_form(format_text("it is not valid JSON near its byte {}", position));
  }

 private:
  // A frame for the next child of `top`.
  void set_up(TreeFrame& frame, const TreeFrame& top) const {
    frame.depth = top.depth;
    frame.place_nbytes = top.place_nbytes + nbytes_of_next(top);
    frame.is_inline = top.is_inline;
    switch (top.tag) {
      case Tag::list:
      case Tag::tuple: frame.mode = top.mode; break;
      case Tag::dict:
        // Keys are always made: the paths need them.
        frame.mode = top.count % 2 == 1 ? Mode::whole : top.child_mode;
        frame.is_inline |= top.count % 2 == 1;
        break;
      case Tag::kind:
        if (top.count < 2 || top.count > 3) errors_.refuse("an array");
        frame.mode = top.count == 2 ? Mode::whole : top.mode;
        frame.is_inline |= top.count == 2;
        frame.is_root = top.is_root && top.count == 3;
        break;
      default: errors_.refuse("an array");
    }
  }

  // What the next child of `top` adds to its path.
  static std::uint64_t nbytes_of_next(const TreeFrame& top) {
    if (top.tag == Tag::dict) return top.count % 2 == 1 ? 0 : value::key_nbytes(top.key) + 1;
    return top.tag == Tag::kind ? 0 : kIndexNbytes + 1;
  }

  void count_path(const TreeFrame& top) {
    if (top.is_inline || (top.tag == Tag::dict && top.count % 2 == 1)) return;
    if (!paths_.add(top.place_nbytes, nbytes_of_next(top))) {
      errors_.refuse_form(
          format_text("its paths have more than {} bytes together", kMaxPathsNbytes));
    }
  }

  void set_tag(TreeFrame& frame, std::string_view tag) {
    static constexpr std::pair<std::string_view, Tag> kTags[] = {
        {kDictTag, Tag::dict},         {kListTag, Tag::list},   {kTupleTag, Tag::tuple},
        {kFloatingTag, Tag::floating}, {kBytesTag, Tag::bytes}, {kComplexTag, Tag::complex},
        {kBlobTag, Tag::blob},         {kKindTag, Tag::kind},   {kPickleTag, Tag::pickle},
        {kOpaqueTag, Tag::opaque},
    };
    for (const auto& [name, value] : kTags) {
      if (name == tag) frame.tag = value;
    }
    switch (frame.tag) {
      case Tag::open: errors_.refuse_form(format_text("unknown tag {}", in_quotes(tag)));
      case Tag::list:
      case Tag::tuple:
        if (frame.mode == Mode::look) frame.mode = Mode::whole;
        [[fallthrough]];
      case Tag::dict:
        if (++frame.depth > kMaxDepth) {
          errors_.refuse_form(format_text("it nests deeper than {} containers", kMaxDepth));
        }
        frame.path_nbytes = path_.size();
        break;
      case Tag::kind:
        if (stack_.size() > 1 && stack_[stack_.size() - 2].tag == Tag::kind)
          errors_.refuse("a kind");
        break;
      case Tag::blob: break;  // a list of numbers or a leaf: close_blob decides
      default: set_leaf(frame);
    }
  }

  void set_kind(TreeFrame& frame, std::string_view name) {
    const auto kind = kind_from_name(name);
    if (!kind) errors_.refuse_form(format_text("unknown kind {}", in_quotes(name)));
    frame.kind = *kind;
    // It is one value: no selection goes into it.
    if (*kind == Kind::typed && frame.mode == Mode::look) frame.mode = Mode::whole;
  }

  // A text within a leaf.
  void set_text(TreeFrame& frame, std::string& text) {
    const auto n = frame.count;
    bool is_right = false;
    if ((frame.tag == Tag::floating && n == 1) || (frame.tag == Tag::complex && n <= 2)) {
      is_right = parse_hex64(text, frame.bits[n - 1]);
    } else if (frame.tag == Tag::bytes && n == 1) {
      is_right = parse_hex(text, frame.bytes);
    } else if (frame.tag == Tag::pickle && n == 2) {
      is_right = parse_hex(text, frame.bytes);
    } else if (frame.tag == Tag::tensor && n == 1) {
      const auto dtype = dtype_from_name(text);
      is_right = dtype.has_value();
      if (dtype) frame.view.dtype = *dtype;
    } else if (frame.tag == Tag::blob && n == 2) {
      is_right = set_blob_type(frame.blob, text);
    } else if ((frame.tag == Tag::pickle && n == 1) || (frame.tag == Tag::opaque && n == 2) ||
               (frame.tag == Tag::blob && n == 3)) {
      frame.type_name = std::move(text);
      is_right = true;
    }
    if (!is_right) errors_.refuse(format_text("the text {}", in_quotes(text)));
  }

  static bool set_blob_type(Blob& blob, std::string_view name) {
    static constexpr std::pair<std::string_view, Blob::Type> kTypes[] = {
        {"text", Blob::Type::text},     {"bytes", Blob::Type::bytes},
        {"pickle", Blob::Type::pickle}, {"integers", Blob::Type::integers},
        {"floats", Blob::Type::floats},
    };
    for (const auto& [type_name, type] : kTypes) {
      if (type_name != name) continue;
      blob.type = type;
      return true;
    }
    return false;
  }

  bool integer(std::int64_t v) {
    if (stack_.empty()) return add_scalar(Value(v));
    auto& top = stack_.back();
    switch (top.tag) {
      case Tag::list:
      case Tag::tuple:
      case Tag::dict:
      case Tag::kind: return add_scalar(Value(v));
      case Tag::dims:
        if (top.view.shape.size() == kMaxDims) {
          errors_.refuse_form(format_text("a tensor has more than {} dimensions", kMaxDims));
        }
        top.view.shape.push_back(v);
        break;
      case Tag::open:
        top.tag = Tag::tensor;
        top.view.entry = index(v);
        set_leaf(top);
        break;
      case Tag::tensor: set_number(top, v); break;
      case Tag::blob:
        if (top.count != 1) errors_.refuse("an integer");
        top.blob.entry = index(v);
        break;
      case Tag::opaque:
        if (top.count != 1) errors_.refuse("an integer");
        top.index = v;
        break;
      default: errors_.refuse("an integer");
    }
    ++top.count;
    return true;
  }

  // A number within a tensor.
  void set_number(TreeFrame& frame, std::int64_t v) const {
    if (v < 0) errors_.refuse("an integer");
    const auto number = static_cast<std::uint64_t>(v);
    auto& view = frame.view;
    switch (frame.count) {
      case 4: view.byte_offset = number; break;
      // There are not more runs of memory than entries.
      case 5: view.in_memory.emplace().run = index(v); break;
      case 6: view.in_memory->run_nbytes = number; break;
      case 8: view.in_memory->byte_offset = number; break;
      default: errors_.refuse("an integer");
    }
  }

  std::uint32_t index(std::int64_t v) const {
    if (v < 0 || static_cast<std::uint64_t>(v) >= entries_.size()) {
      errors_.refuse_form(format_text("it names entry {} of {}", v, entries_.size()));
    }
    return static_cast<std::uint32_t>(v);
  }

  // A scalar comes without a frame of its own, so whether it is wanted is
  // judged by the frame around it.
  bool add_scalar(Value value) {
    bool is_dropped = false;
    if (!stack_.empty()) {
      const auto& top = stack_.back();
      is_dropped = (top.tag == Tag::dict && top.child_mode == Mode::look) ||
                   (top.tag == Tag::kind && top.mode == Mode::look && !top.is_root);
    }
    const auto type = value.type();
    return add({std::move(value), type, is_dropped});
  }

  // Gives a whole value to the frame on top.
  bool add(TreeResult r) {
    if (stack_.empty()) {
      root_ = std::move(r.value);
      return true;
    }
    auto& top = stack_.back();
    if (top.tag != Tag::kind) count_path(top);
    switch (top.tag) {
      case Tag::list:
      case Tag::tuple: top.items.push_back(std::move(r.value)); break;
      case Tag::dict: add_to_dict(top, std::move(r)); break;
      case Tag::kind: add_to_kind(top, std::move(r)); break;
      default: errors_.refuse(format_text("type {}", to_string(r.type)));
    }
    ++top.count;
    return true;
  }

  void add_to_dict(TreeFrame& dict, TreeResult r) {
    if (dict.count % 2 == 1) {
      if (!is_hashable(r.value)) {
        errors_.refuse_form(format_text("type {} is the key of a dict", to_string(r.type)));
      }
      dict.key = std::move(r.value);
      dict.child_mode = dict.mode == Mode::look ? ask(dict) : dict.mode;
      return;
    }
    const bool is_kept = !r.is_dropped && dict.child_mode != Mode::drop;
    dict.pairs.emplace_back(std::move(dict.key), is_kept ? std::move(r.value) : Value());
    dict.is_kept.push_back(is_kept);
    dict.child_mode = Mode::whole;  // for the next key
  }

  Mode ask(const TreeFrame& dict) {
    path_.resize(dict.path_nbytes);
    if (!dict.is_root) path_ += '.';
    path_ += key_text(dict.key);
    const int answer = source_.select(path_);
    return answer == 0 ? Mode::drop : answer == 1 ? Mode::look : Mode::whole;
  }

  void add_to_kind(TreeFrame& kind, TreeResult r) const {
    if (kind.count == 2) {
      kind.extra = std::move(r.value);
      if (kind.kind == Kind::typed) check_typed(kind.extra);
    } else if (kind.count == 3) {
      kind.node = std::move(r.value);
      kind.node_type = r.type;
      if (r.is_dropped) kind.mode = Mode::drop;
    } else {
      errors_.refuse(format_text("type {}", to_string(r.type)));
    }
  }

  // A name that is not on the list may be one of a later version.
  void check_typed(const Value& extra) const {
    const auto problem = typed_problem(extra);
    if (problem.empty()) return;
    fail(ErrorCode::unsupported, "{}: the tree has {}, at '{}'", errors_.file, problem, place());
  }

  // The path of the node that is being read.
  std::string place() const {
    std::string text;
    for (std::size_t i = 0; i + 1 < stack_.size(); ++i) {
      const auto& frame = stack_[i];
      const bool is_list = frame.tag == Tag::list || frame.tag == Tag::tuple;
      const bool has_key = frame.tag == Tag::dict && frame.count % 2 == 0;  // else it is read now
      if (!has_key && !is_list) continue;
      if (!text.empty()) text += '.';
      text += is_list ? fmt::to_string(frame.items.size()) : key_text(frame.key);
    }
    return text;
  }

  std::span<const Entry> entries_;
  const TreeSource& source_;
  TreeErrors errors_;
  FrameCloser closer_;
  std::vector<TreeFrame> stack_;
  PathsNbytes paths_;
  std::string path_;  // of the child that a dict was asked about last
  Value root_;
};

}  // namespace

Value decode_tree(std::string_view text, std::span<const Entry> entries, const TreeSource& source,
                  std::string_view file) {
  if (text.size() > kMaxWrittenHeaderNbytes) {
    fail(ErrorCode::corrupt, "{}: the tree has {} bytes, more than the {} that are ever written",
         file, text.size(), kMaxWrittenHeaderNbytes);
  }
  // The parser would take a NUL for the end.
  if (const auto at = text.find('\0'); at != text.npos) {
    fail(ErrorCode::corrupt, "{}: the tree has a NUL at its byte {}", file, at);
  }
  Decoder decoder(entries, source, file);
  nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &decoder);
  return decoder.take();
}

}  // namespace understudy::format
