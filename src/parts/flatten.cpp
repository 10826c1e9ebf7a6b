#include "parts/flatten.h"

#include <algorithm>

namespace understudy::parts {

bool is_mapping(const Value& node) {
  using Kind = Value::Kind;
  if (node.type() != Value::Type::dict) return false;
  const auto kind = node.kind();
  return kind == Kind::plain || kind == Kind::ordered_dict || kind == Kind::default_dict ||
         kind == Kind::counter;
}

bool is_list(const Value& node) {
  return node.type() == Value::Type::list && node.kind() == Value::Kind::plain;
}

void Flattener::flatten(const Value& state) {
  for (const auto& [key, child] : state.pairs()) {
    path_.assign(1, key_text(key));
    visit(child);
  }
}

bool Flattener::is_terminal(const Value& node) const {
  if (is_mapping(node)) return false;
  if (!is_list(node)) return true;
  return std::ranges::none_of(node.items(), [this](const Value& item) {
    return is_mapping(item) || is_tensor_(item) || (is_list(item) && !is_terminal(item));
  });
}

void Flattener::visit(const Value& node) {
  if (is_mapping(node)) {
    for (const auto& [key, child] : node.pairs()) {
      path_.emplace_back(key_text(key));
      visit(child);
      path_.pop_back();
    }
    return;
  }
  if (!is_terminal(node)) {
    std::int64_t index = 0;
    for (const auto& child : node.items()) {
      path_.emplace_back(index++);
      visit(child);
      path_.pop_back();
    }
    return;
  }
  std::string name;
  for (const auto& step : path_) {
    if (!name.empty() || &step != &path_.front()) name += '.';
    const auto* key = std::get_if<std::string>(&step);
    name += key != nullptr ? *key : std::to_string(std::get<std::int64_t>(step));
  }
  on_leaf_(name, path_, node);
}

const Value* find(const Value& node, std::string_view name, LeafPath& path) {
  const auto below = [&](const std::string& text, const LeafPath::value_type& step,
                         const Value& child) -> const Value* {
    const bool is_it = name == text;
    const bool may_have =
        name.size() > text.size() && name.starts_with(text) && name[text.size()] == '.';
    if (!is_it && !may_have) return nullptr;
    path.push_back(step);
    if (is_it) return &child;
    if (const auto* found = find(child, name.substr(text.size() + 1), path)) return found;
    path.pop_back();
    return nullptr;
  };
  if (is_mapping(node)) {
    for (const auto& [key, child] : node.pairs()) {
      const auto text = key_text(key);
      if (const auto* found = below(text, text, child)) return found;
    }
  } else if (is_list(node)) {
    std::int64_t index = 0;
    for (const auto& child : node.items()) {
      if (const auto* found = below(std::to_string(index), index, child)) return found;
      ++index;
    }
  }
  return nullptr;
}

const Value* follow(const Value& node, const LeafPath& path) {
  const auto* here = &node;
  for (const auto& step : path) {
    if (const auto* index = std::get_if<std::int64_t>(&step)) {
      if (!is_list(*here) || *index >= std::ssize(here->items())) return nullptr;
      here = &here->items()[static_cast<std::size_t>(*index)];
      continue;
    }
    if (!is_mapping(*here)) return nullptr;
    const auto found = std::ranges::find_if(here->pairs(), [&](const auto& pair) {
      return key_text(pair.first) == std::get<std::string>(step);
    });
    if (found == here->pairs().end()) return nullptr;
    here = &found->second;
  }
  return here;
}

}  // namespace understudy::parts
