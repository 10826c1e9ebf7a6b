#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "values.h"

namespace understudy::cli {
namespace {

// Without --all a container shows about a screen of its children, a list of
// scalars what fits a line, and a text its beginning.
constexpr std::size_t kMostChildren = 32;
constexpr std::size_t kMostScalars = 8;
constexpr std::size_t kLongestText = 60;
constexpr std::size_t kLongestHex = 16;
constexpr std::size_t kEverything = SIZE_MAX;

std::string type_or_kind(const Value& value) {
  if (value.kind() == Value::Kind::typed) return escape(typed_name(value));
  return std::string(value.kind() == Value::Kind::plain ? to_string(value.type())
                                                        : to_string(value.kind()));
}

/// A key that could be taken for another type, or for layout, gets quotes.
std::string shown_key(const Value& key) {
  const auto text = key_text(key);
  if (key.type() != Value::Type::text) return escape(text);
  const bool is_plain = !text.empty() && text.front() != ' ' && text.back() != ' ' &&
                        text.front() != '(' &&
                        text.find_first_not_of("0123456789.-") != std::string::npos &&
                        text != "None" && text != "True" && text != "False";
  return is_plain ? escape(text) : fmt::format("'{}'", escape(text));
}

/// Dense bytes of the tensors below a node.
std::uint64_t tensors_nbytes(const Value& value) {
  std::uint64_t sum = 0;
  if (value.type() == Value::Type::tensor) {
    sum = value.as_tensor().nbytes();
  } else if (value.type() == Value::Type::dict) {
    for (const auto& pair : value.pairs()) sum += tensors_nbytes(pair.second);
  } else if (value.is_container()) {
    for (const auto& item : value.items()) sum += tensors_nbytes(item);
  }
  return sum;
}

/// Which tensors share bytes, by the run of memory or the entry they lie in.
class Sharing {
 public:
  explicit Sharing(const std::vector<TensorInfo>& tensors) {
    for (const auto& tensor : tensors) {
      if (tensor.is_shared) users_[key_of(tensor)].push_back(&tensor);
    }
  }

  std::string text(const TensorInfo& tensor) const {
    if (!tensor.is_shared) return {};
    const auto& users = users_.at(key_of(tensor));
    const auto* other = users[0] == &tensor ? users[1] : users[0];
    auto text = fmt::format("  shares bytes with {}", escape(other->path));
    if (users.size() > 2) text += fmt::format(" and {} more", users.size() - 2);
    return text;
  }

 private:
  using Key = std::tuple<std::string, std::optional<std::uint32_t>, std::string>;
  static Key key_of(const TensorInfo& tensor) {
    return {tensor.file, tensor.run, tensor.run ? std::string() : tensor.entry};
  }

  std::map<Key, std::vector<const TensorInfo*>> users_;
};

class Printer {
 public:
  Printer(const Description& description, bool all)
      : description_(description), sharing_(description.tensors), all_(all) {}

  std::string run() {
    node(description_.tree, "", 0);
    return std::move(out_);
  }

 private:
  std::size_t most(std::size_t limit) const { return all_ ? kEverything : limit; }

  void line(int depth, const std::string& key, const std::string& what) {
    out_.append(static_cast<std::size_t>(depth) * 2, ' ');
    out_ += key;
    if (!key.empty()) out_ += "  ";
    out_ += what;
    out_ += '\n';
  }

  void node(const Value& value, const std::string& key, int depth) {
    if (value.type() == Value::Type::tensor) {
      tensor(value, key, depth);
    } else if (!value.is_container()) {
      line(depth, key, leaf(value));
    } else if (value.type() != Value::Type::dict && std::ranges::all_of(value.items(), is_simple)) {
      line(depth, key, scalars(value));
    } else if (value.kind() == Value::Kind::typed && has_scalars_only(value)) {
      line(depth, key, fields(value));
    } else {
      line(depth, key, container(value));
      attributes(value, depth + 1);
      children(value, depth + 1);
    }
  }

  void tensor(const Value& value, const std::string& key, int depth) {
    static const TensorInfo kUnlisted;
    const auto& t = value.as_tensor();
    const auto& info = is_in_attributes_ ? kUnlisted : description_.tensors[next_tensor_++];
    auto text = fmt::format("{} [{}]  {}{}{}", name(t.dtype()), fmt::join(t.shape(), ", "),
                            human_size(t.nbytes()), kind_note(value), sharing_.text(info));
    if (!info.chunks.empty()) text += fmt::format("  in {}", counted(info.chunks.size(), "chunk"));
    line(depth, key, text);
    if (!all_) return;
    for (const auto& chunk : info.chunks) {
      line(depth + 1, "", fmt::format("{} in {}", box(chunk), escape(chunk.file)));
    }
  }

  /// "[0:4, 2:8]"
  static std::string box(const ChunkInfo& chunk) {
    std::string text;
    for (std::size_t d = 0; d < chunk.sizes.size(); ++d) {
      text += fmt::format("{}{}:{}", d == 0 ? "" : ", ", chunk.offsets[d],
                          chunk.offsets[d] + chunk.sizes[d]);
    }
    return "[" + text + "]";
  }

  static std::string kind_note(const Value& value) {
    if (value.kind() == Value::Kind::plain) return {};
    if (value.kind() == Value::Kind::parameter) {
      const auto& extra = value.extra();
      const bool is_frozen = extra.type() == Value::Type::boolean && !extra.as_boolean();
      return is_frozen ? "  (frozen parameter)" : "  (parameter)";
    }
    return fmt::format("  ({})", to_string(value.kind()));
  }

  /// A leaf with its kind and what belongs to the kind.
  std::string leaf(const Value& value) const {
    auto text = bare(value);
    if (value.kind() == Value::Kind::plain) return text;
    text += fmt::format("  ({}", to_string(value.kind()));
    if (is_simple(value.extra()) && !value.extra().is_none()) text += ", " + bare(value.extra());
    return text + ")";
  }

  std::string bare(const Value& value) const {
    switch (value.type()) {
      case Value::Type::boolean: return value.as_boolean() ? "True" : "False";
      case Value::Type::integer: return fmt::to_string(value.as_integer());
      case Value::Type::floating: return fmt::to_string(value.as_floating());
      case Value::Type::complex:
        return fmt::format("({}, {})", value.as_complex().real(), value.as_complex().imag());
      case Value::Type::text: return text(value.as_text());
      case Value::Type::bytes: return bytes(value.as_bytes());
      case Value::Type::opaque: return opaque(value.as_opaque());
      default: return "None";
    }
  }

  std::string text(std::string_view whole) const {
    if (whole.size() <= most(kLongestText)) return fmt::format("'{}'", escape(whole));
    auto end = kLongestText;
    while (end > 0 && (static_cast<unsigned char>(whole[end]) & 0xc0) == 0x80) --end;
    return fmt::format("'{}...' ({} bytes)", escape(whole.substr(0, end)), whole.size());
  }

  static std::string bytes(std::string_view whole) {
    if (whole.size() > kLongestHex) return fmt::format("{} bytes", whole.size());
    std::string text = "bytes";
    for (const unsigned char byte : whole) text += fmt::format(" {:02x}", byte);
    return text;
  }

  std::string opaque(const Opaque& object) const {
    if (!description_.is_ours) {
      return fmt::format("{}, a type that no tensor has", escape(object.type_name));
    }
    if (!object.pickle) return fmt::format("{}, not read", escape(object.type_name));
    return fmt::format("object of type {}, {} bytes of pickle", escape(object.type_name),
                       object.pickle->size());
  }

  std::string scalars(const Value& value) const {
    const auto items = value.items();
    const auto n = std::min(items.size(), most(kMostScalars));
    auto text = fmt::format("{} of {}", type_or_kind(value), items.size());
    for (std::size_t i = 0; i < n; ++i) {
      text += i == 0 ? ": " : ", ";
      text += bare(items[i]);
    }
    if (n < items.size()) text += fmt::format(", ... {} more", items.size() - n);
    return text + extra_note(value);
  }

  static bool has_scalars_only(const Value& value) {
    return std::ranges::all_of(value.pairs(),
                               [](const auto& pair) { return is_simple(pair.second); });
  }

  /// A typed value on one line: "datetime.date  '2026-01-02'".
  std::string fields(const Value& value) const {
    auto text = type_or_kind(value);
    for (const auto& [key, field] : value.pairs()) {
      const auto name = key_text(key);
      text += text.find("  ") == text.npos ? "  " : ", ";
      text += name == "text" ? bare(field) : fmt::format("{} {}", escape(name), bare(field));
    }
    return text;
  }

  std::string container(const Value& value) const {
    const auto n = value.type() == Value::Type::dict ? value.pairs().size() : value.items().size();
    const auto nbytes = tensors_nbytes(value);
    return fmt::format("{} of {}{}{}", type_or_kind(value), n,
                       nbytes > 0 ? ", " + human_size(nbytes) : "", extra_note(value));
  }

  std::string extra_note(const Value& value) const {
    const auto& extra = value.extra();
    if (extra.is_none() || !is_simple(extra)) return {};
    return fmt::format("  ({})", bare(extra));
  }

  /// What belongs to a container's kind, where it is more than a word.
  void attributes(const Value& value, int depth) {
    if (!value.extra().is_container() || value.kind() == Value::Kind::typed) return;
    if (!all_) {
      line(depth, "(attributes)", container(value.extra()) + " (--all shows them)");
      return;
    }
    const bool before = std::exchange(is_in_attributes_, true);
    node(value.extra(), "(attributes)", depth);
    is_in_attributes_ = before;
  }

  void children(const Value& value, int depth) {
    std::size_t shown = 0, hidden = 0;
    const auto child = [&](const Value& item, auto&& key) {
      if (shown < most(kMostChildren)) {
        ++shown;
        node(item, key(), depth);
      } else {
        ++hidden;
        skip(item);
      }
    };
    if (value.type() == Value::Type::dict) {
      for (const auto& [key, item] : value.pairs()) {
        child(item, [&key = key] { return shown_key(key); });
      }
    } else {
      for (const auto& item : value.items())
        child(item, [&] { return fmt::format("{}", shown - 1); });
    }
    if (hidden > 0) line(depth, "", fmt::format("... {} more (--all shows them)", hidden));
  }

  /// Goes past tensors that are not shown.
  void skip(const Value& value) {
    if (is_in_attributes_) return;
    if (value.type() == Value::Type::tensor) {
      ++next_tensor_;
    } else if (value.type() == Value::Type::dict) {
      for (const auto& pair : value.pairs()) skip(pair.second);
    } else if (value.is_container()) {
      for (const auto& item : value.items()) skip(item);
    }
  }

  const Description& description_;
  Sharing sharing_;
  bool all_;
  std::size_t next_tensor_ = 0;  // in walk order, which leaves attributes out
  bool is_in_attributes_ = false;
  std::string out_;
};

}  // namespace

std::string tree_text(const Description& description, bool all) {
  return Printer(description, all).run();
}

}  // namespace understudy::cli
