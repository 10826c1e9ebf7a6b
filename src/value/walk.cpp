#include "value/walk.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "value/typed.h"

namespace understudy::value {
namespace {

void visit_below(const Path& path, const Value& node, int depth, const Visitor& visit) {
  if (!visit(path, node) || !node.is_container()) return;
  if (depth >= kMaxDepth) {
    fail(ErrorCode::invalid, "the state is nested deeper than {} containers at '{}'", kMaxDepth,
         path.str());
  }
  if (node.type() == Value::Type::dict) {
    for (const auto& [key, child] : node.pairs()) {
      visit_below({&path, &key, -1}, child, depth + 1, visit);
    }
    return;
  }
  std::int64_t index = 0;
  for (const auto& child : node.items())
    visit_below({&path, nullptr, index++}, child, depth + 1, visit);
}

// The text that tells the value whole, where it has one: of a date, a UUID.
const std::string* text_of_typed(const Value& key) noexcept {
  for (const auto& [name, field] : key.pairs()) {
    const bool is_it = name.type() == Value::Type::text && field.type() == Value::Type::text &&
                       name.as_text() == "text";
    if (is_it) return &field.as_text();
  }
  return nullptr;
}

std::string typed_key_text(const Value& key) {
  if (key.kind() != Value::Kind::typed) return "<dict>";
  const auto* text = text_of_typed(key);
  return text != nullptr ? *text : "<" + typed_name(key) + ">";
}

void append_key_text(std::string& out, const Value& key) {
  switch (key.type()) {
    case Value::Type::none: out += "None"; break;
    case Value::Type::boolean: out += key.as_boolean() ? "True" : "False"; break;
    case Value::Type::integer: out += fmt::to_string(key.as_integer()); break;
    case Value::Type::floating: out += fmt::to_string(key.as_floating()); break;
    case Value::Type::text: out += key.as_text(); break;
    case Value::Type::tuple: {
      out += '(';
      bool is_first = true;
      for (const auto& item : key.items()) {
        if (!std::exchange(is_first, false)) out += ',';
        append_key_text(out, item);
      }
      out += ')';
      break;
    }
    case Value::Type::dict: out += typed_key_text(key); break;
    default: out += fmt::format("<{}>", to_string(key.type()));
  }
}

template <class T>
void put(std::string& out, const T& v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

}  // namespace
}  // namespace understudy::value

namespace understudy {

std::string key_text(const Value& key) {
  if (key.type() == Value::Type::text) return key.as_text();
  std::string text;
  value::append_key_text(text, key);
  return text;
}

}  // namespace understudy

namespace understudy::value {

std::uint64_t key_nbytes(const Value& key) noexcept {
  constexpr std::uint64_t kNumber = 24;  // the longest float
  if (key.type() == Value::Type::text) return key.as_text().size();
  if (key.type() == Value::Type::dict) {
    const auto* text = text_of_typed(key);
    return text != nullptr ? text->size() : kNumber;
  }
  if (key.type() != Value::Type::tuple) return kNumber;
  std::uint64_t nbytes = 2;
  for (const auto& item : key.items()) nbytes += key_nbytes(item) + 1;
  return nbytes;
}

void append_key_id(std::string& out, const Value& key) {
  put(out, key.type());
  put(out, key.kind());
  switch (key.type()) {
    case Value::Type::boolean: put(out, key.as_boolean()); break;
    case Value::Type::integer: put(out, key.as_integer()); break;
    case Value::Type::floating: put(out, key.as_floating()); break;
    case Value::Type::complex: put(out, key.as_complex()); break;
    case Value::Type::text:
    case Value::Type::bytes: {
      const auto& text = key.type() == Value::Type::text ? key.as_text() : key.as_bytes();
      put(out, text.size());
      out += text;
      break;
    }
    case Value::Type::list:
    case Value::Type::tuple:
      put(out, key.items().size());
      for (const auto& item : key.items()) append_key_id(out, item);
      break;
    case Value::Type::dict:  // typed
      append_key_id(out, key.extra());
      put(out, key.pairs().size());
      for (const auto& [name, field] : key.pairs()) {
        append_key_id(out, name);
        append_key_id(out, field);
      }
      break;
    default: break;
  }
}

std::string Path::str() const {
  std::vector<std::string> parts;
  for (const auto* p = this; p->parent != nullptr; p = p->parent) {
    parts.push_back(p->key != nullptr ? key_text(*p->key) : fmt::to_string(p->index));
  }
  std::reverse(parts.begin(), parts.end());
  return fmt::format("{}", fmt::join(parts, "."));
}

void walk(const Value& root, const Visitor& visit) {
  visit_below({}, root, 0, visit);
}

std::vector<const Tensor*> tensors_of(const Value& root) {
  std::vector<const Tensor*> tensors;
  walk(root, [&](const Path&, const Value& node) {
    if (node.type() == Value::Type::tensor) tensors.push_back(&node.as_tensor());
    return true;
  });
  return tensors;
}

}  // namespace understudy::value
