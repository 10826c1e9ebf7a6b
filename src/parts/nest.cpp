#include "parts/nest.h"

#include <utility>

#include "base/error.h"

namespace understudy::parts {
namespace {

// A container while it is made.
struct Node {
  enum class Type { empty, leaf, dict, list };
  Type type = Type::empty;
  Value leaf;
  std::vector<std::string> keys;
  std::map<std::string, std::size_t> places;  // of the keys
  std::vector<Node> items;                    // a dict's in the order of its keys

  void become(Type wanted, const std::string& name) {
    if (type == Type::empty) type = wanted;
    if (type == wanted && wanted != Type::leaf) return;
    if (type == Type::leaf || wanted == Type::leaf || type != wanted) {
      fail(ErrorCode::invalid, "'{}' cannot lie where something of another kind lies", name);
    }
  }

  Node& child(const std::variant<std::string, std::int64_t>& step, std::size_t most,
              const std::string& name) {
    if (const auto* index = std::get_if<std::int64_t>(&step)) {
      become(Type::list, name);
      if (*index < 0 || static_cast<std::size_t>(*index) >= most) {
        fail(ErrorCode::invalid, "'{}' has the index {} in a state of {} leaves", name, *index,
             most);
      }
      const auto i = static_cast<std::size_t>(*index);
      if (items.size() <= i) items.resize(i + 1);
      return items[i];
    }
    become(Type::dict, name);
    const auto& key = std::get<std::string>(step);
    const auto [place, is_new] = places.try_emplace(key, keys.size());
    if (is_new) {
      keys.push_back(key);
      items.emplace_back();
    }
    return items[place->second];
  }

  Value take() {
    switch (type) {
      case Type::empty: return {};
      case Type::leaf: return std::move(leaf);
      case Type::list: {
        Value::Items values;
        for (auto& item : items) values.push_back(item.take());
        return Value::list(std::move(values));
      }
      case Type::dict: break;
    }
    Value::Pairs values;
    for (std::size_t i = 0; i < keys.size(); ++i) values.emplace_back(keys[i], items[i].take());
    return Value::dict(std::move(values));
  }
};

void put(Node& root, const std::string& name, const LeafPath& path, const Value& value,
         std::size_t most) {
  if (path.size() > static_cast<std::size_t>(kMaxDepth)) {
    fail(ErrorCode::invalid, "'{}' lies more than {} deep", name, kMaxDepth);
  }
  auto* node = &root;
  for (const auto& step : path) node = &node->child(step, most, name);
  if (node->type != Node::Type::empty) node->become(Node::Type::leaf, name);
  node->type = Node::Type::leaf;
  node->leaf = value;
}

}  // namespace

Value nest(const Value& leaves, const LeafPaths& paths) {
  std::map<std::string, const Value*> left;
  for (const auto& [key, value] : leaves.pairs()) left.emplace(key.as_text(), &value);
  Node root;
  root.type = Node::Type::dict;
  const auto most = std::max(left.size(), paths.size());
  for (const auto& [name, path] : paths) {
    const auto found = left.find(name);
    if (found == left.end() || path.empty()) continue;
    put(root, name, path, *found->second, most);
    left.erase(found);
  }
  for (const auto& [key, value] : leaves.pairs()) {
    if (left.contains(key.as_text())) put(root, key.as_text(), {key.as_text()}, value, most);
  }
  return root.take();
}

}  // namespace understudy::parts
