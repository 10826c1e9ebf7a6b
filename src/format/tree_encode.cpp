#include <bit>
#include <utility>

#include "base/error.h"
#include "format/hash.h"
#include "format/header_writer.h"
#include "format/text.h"
#include "format/tree.h"
#include "format/tree_rules.h"
#include "understudy/again.h"
#include "value/walk.h"

namespace understudy::format {
namespace {

using Type = Value::Type;
using value::Path;

std::string_view blob_name(Blob::Type type) {
  switch (type) {
    case Blob::Type::text: return "text";
    case Blob::Type::bytes: return "bytes";
    case Blob::Type::pickle: return "pickle";
    case Blob::Type::integers: return "integers";
    case Blob::Type::floats: return "floats";
  }
  return "";
}

class Encoder {
 public:
  // Without leaves: only what needs no entry can be written.
  explicit Encoder(const TreeLeaves* leaves, std::vector<Span>* scalars = nullptr)
      : leaves_(leaves), scalars_(scalars) {}

  void put(const Path& path, const Value& value, int depth) {
    const auto begin = out_.size();
    put_any(path, value, depth);
    if (scalars_ == nullptr || leaves_ == nullptr || !is_scalar(value)) return;
    scalars_->push_back({begin, out_.size() - begin});
  }

  std::string take() { return std::move(out_); }

 private:
  void put_any(const Path& path, const Value& value, int depth) {
    const auto problem = kind_problem(value.kind(), value.extra(), value.type(), &value);
    if (!problem.empty()) refuse(path, problem);
    if (value.kind() == Value::Kind::plain) return put_plain(path, value, depth);
    open(kKindTag);
    text(to_string(value.kind()));
    out_ += ',';
    put_inline(path, value.extra(), depth + 1);
    out_ += ',';
    put_plain(path, value, depth);
    out_ += ']';
  }

  [[noreturn]] void refuse(const Path& path, std::string_view why) const {
    fail(ErrorCode::invalid, "the state cannot be written at '{}': {}", path.str(), why);
  }

  // ["tag",
  void open(std::string_view tag) {
    out_ += "[\"";
    out_ += tag;
    out_ += "\",";
  }

  // Our own words, which need no escapes.
  void text(std::string_view word) {
    out_ += '"';
    out_ += word;
    out_ += '"';
  }

  template <class T>
  void numbers(const std::vector<T>& values) {
    out_ += '[';
    for (const auto v : values) {
      append_number(out_, v);
      out_ += ',';
    }
    close();
  }

  // The comma after the last item becomes the bracket.
  void close() {
    if (out_.back() == ',') {
      out_.back() = ']';
    } else {
      out_ += ']';
    }
  }

  // A value that has no leaves of its own: a key or an extra.
  void put_inline(const Path& path, const Value& value, int depth) {
    const auto* leaves = std::exchange(leaves_, nullptr);
    put(path, value, depth);
    leaves_ = leaves;
  }

  void put_plain(const Path& path, const Value& value, int depth) {
    Blob::Type blob;
    if (leaves_ != nullptr && is_blob(value, blob)) return put_blob(path, value, blob);
    switch (value.type()) {
      case Type::none: out_ += "null"; break;
      case Type::boolean: out_ += value.as_boolean() ? "true" : "false"; break;
      case Type::integer: append_number(out_, value.as_integer()); break;
      case Type::floating:
        open(kFloatingTag);
        put_bits(value.as_floating());
        out_ += ']';
        break;
      case Type::complex:
        open(kComplexTag);
        put_bits(value.as_complex().real());
        out_ += ',';
        put_bits(value.as_complex().imag());
        out_ += ']';
        break;
      case Type::text: put_text(path, value.as_text()); break;
      case Type::bytes:
        open(kBytesTag);
        put_hex(value.as_bytes());
        out_ += ']';
        break;
      case Type::list:
      case Type::tuple: put_items(path, value, depth); break;
      case Type::dict: put_dict(path, value, depth); break;
      case Type::tensor: put_tensor(path); break;
      case Type::opaque: put_opaque(path, value.as_opaque()); break;
    }
  }

  void put_bits(double value) { text(hex64(std::bit_cast<std::uint64_t>(value))); }

  void put_hex(std::string_view bytes) {
    out_ += '"';
    append_hex(out_, bytes);
    out_ += '"';
  }

  void put_text(const Path& path, std::string_view value) {
    if (!is_utf8(value)) {
      refuse(path, format_text("the text {} is not UTF-8", in_quotes(value)));
    }
    append_json_string(out_, value);
  }

  void check_depth(const Path& path, int depth) const {
    if (depth >= kMaxDepth) {
      refuse(path, format_text("it is nested deeper than {} containers", kMaxDepth));
    }
  }

  void put_items(const Path& path, const Value& value, int depth) {
    check_depth(path, depth);
    open(value.type() == Type::list ? kListTag : kTupleTag);
    std::int64_t index = 0;
    for (const auto& item : value.items()) {
      put_child({&path, nullptr, index++}, kIndexNbytes, item, depth);
      out_ += ',';
    }
    close();
  }

  void put_child(const Path& path, std::uint64_t key_nbytes, const Value& child, int depth) {
    if (leaves_ != nullptr && !paths_.add(path_nbytes_, key_nbytes + 1)) {
      refuse(path, format_text("its paths have more than {} bytes together", kMaxPathsNbytes));
    }
    path_nbytes_ += key_nbytes + 1;
    put(path, child, depth + 1);
    path_nbytes_ -= key_nbytes + 1;
  }

  void put_dict(const Path& path, const Value& value, int depth) {
    check_depth(path, depth);
    open(kDictTag);
    std::vector<std::pair<std::size_t, std::size_t>> keys;  // where each is written
    keys.reserve(value.pairs().size());
    for (const auto& [key, child] : value.pairs()) {
      const Path below{&path, &key, -1};
      if (!is_hashable(key)) {
        refuse(below, format_text("type {} cannot be the key of a dict", to_string(key.type())));
      }
      const auto begin = out_.size();
      put_inline(below, key, depth + 1);
      keys.emplace_back(begin, out_.size() - begin);
      out_ += ',';
      put_child(below, value::key_nbytes(key), child, depth);
      out_ += ',';
    }
    close();
    check_keys(path, keys);
  }

  void check_keys(const Path& path,
                  const std::vector<std::pair<std::size_t, std::size_t>>& keys) const {
    std::vector<std::string_view> texts;
    texts.reserve(keys.size());
    for (const auto& [begin, nbytes] : keys)
      texts.push_back(std::string_view(out_).substr(begin, nbytes));
    if (const auto i = find_duplicate(texts); i >= 0) {
      refuse(path,
             format_text("the dict has the key {} twice", texts[static_cast<std::size_t>(i)]));
    }
  }

  void put_tensor(const Path& path) {
    if (leaves_ == nullptr) refuse(path, "a tensor cannot stand in a key or a kind's extra");
    if (next_view_ == leaves_->views.size()) refuse(path, "the layout has fewer tensors");
    const auto& view = leaves_->views[next_view_++];
    out_ += '[';
    append_number(out_, std::uint64_t{view.entry});
    if (!view.is_entry || view.in_memory) {
      out_ += ',';
      text(name(view.dtype));
      out_ += ',';
      numbers(view.shape);
      out_ += ',';
      numbers(view.strides);
      out_ += ',';
      append_number(out_, view.byte_offset);
    }
    if (const auto& m = view.in_memory) {
      out_ += ',';
      append_number(out_, std::uint64_t{m->run});
      out_ += ',';
      append_number(out_, m->run_nbytes);
      out_ += ',';
      numbers(m->strides);
      out_ += ',';
      append_number(out_, m->byte_offset);
    }
    out_ += ']';
  }

  void put_blob(const Path& path, const Value& value, Blob::Type type) {
    if (next_blob_ == leaves_->blobs.size() || leaves_->blobs[next_blob_].type != type) {
      refuse(path, "the layout has other long leaves");
    }
    open(kBlobTag);
    append_number(out_, std::uint64_t{leaves_->blobs[next_blob_++].entry});
    out_ += ',';
    text(blob_name(type));
    if (type == Blob::Type::pickle) {
      out_ += ',';
      put_text(path, value.as_opaque().type_name);
    }
    out_ += ']';
  }

  void put_opaque(const Path& path, const Opaque& opaque) {
    if (leaves_ == nullptr)
      refuse(path, "an opaque object cannot stand in a key or a kind's extra");
    if (opaque.pickle != nullptr) {
      open(kPickleTag);
      put_text(path, opaque.type_name);
      out_ += ',';
      put_hex(*opaque.pickle);
    } else {
      open(kOpaqueTag);
      append_number(out_, std::uint64_t{next_opaque_++});
      out_ += ',';
      put_text(path, opaque.type_name);
    }
    out_ += ']';
  }

  const TreeLeaves* leaves_;
  std::vector<Span>* scalars_;
  std::string out_;
  std::size_t next_view_ = 0;
  std::size_t next_blob_ = 0;
  std::uint32_t next_opaque_ = 0;
  std::uint64_t path_nbytes_ = 0;  // of the container that is being put
  PathsNbytes paths_;
};

}  // namespace

std::string encode_tree(const Value& state, const TreeLeaves& leaves, std::vector<Span>* scalars) {
  Encoder encoder(&leaves, scalars);
  encoder.put({}, state, 0);
  return encoder.take();
}

void exchange_scalars(std::string& tree, std::vector<Span>& scalars,
                      std::span<const std::pair<std::size_t, Value>> others) {
  std::string anew;
  anew.reserve(tree.size() + tree.size() / 8);
  auto moved = scalars;
  std::size_t taken = 0;  // of the old tree
  auto other = others.begin();
  for (std::size_t i = 0; i < scalars.size(); ++i) {
    if (other == others.end() || other->first != i) {
      moved[i].begin = scalars[i].begin - taken + anew.size();
      continue;
    }
    anew.append(tree, taken, scalars[i].begin - taken);
    const auto text = encode_inline(other++->second);
    moved[i] = {anew.size(), text.size()};
    anew += text;
    taken = scalars[i].begin + scalars[i].nbytes;
  }
  if (other != others.end()) {
    fail(ErrorCode::invalid, "the state has no scalar {}, only {}", other->first, scalars.size());
  }
  anew.append(tree, taken);
  tree = std::move(anew);
  scalars = std::move(moved);
}

std::string encode_inline(const Value& value) {
  Encoder encoder(nullptr);
  encoder.put({}, value, 0);
  return encoder.take();
}

}  // namespace understudy::format
