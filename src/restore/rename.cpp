#include "restore/rename.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "restore/families.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

using Type = Value::Type;

struct Moved {
  std::string path;
  Value value;
};

bool has_children(const Value& v) {
  if (v.kind() == Value::Kind::typed) return false;  // its fields stay together
  return v.type() == Type::dict ? !v.pairs().empty() : v.is_container() && !v.items().empty();
}

// Takes out of the tree what gets another path.
class Taker {
 public:
  explicit Taker(const Rename& rename) : rename_(rename) {}

  // What stays of the root.
  Value run(const Value& root) {
    if (!has_children(root)) return root;
    auto taken = visit(root);
    if (!taken.destination || taken.destination->empty()) return std::move(taken.value);
    if (taken.value.type() != Type::dict) {
      fail(ErrorCode::invalid, "rename would move items of the state itself, which is no dict");
    }
    for (const auto& [key, child] : taken.value.pairs()) {
      moved_.push_back({*taken.destination + "." + key_text(key), child});
    }
    return Value::dict({});
  }
  std::vector<Moved>& moved() { return moved_; }

 private:
  struct Taken {
    std::optional<std::string> destination;  // of the whole node, if it stays in one piece
    Value value;
  };

  Taken visit(const Value& node) {
    if (!has_children(node)) return {destination_of_leaf(), node};
    return node.type() == Type::dict ? visit_dict(node) : visit_items(node);
  }

  Taken visit_dict(const Value& node) {
    Value::Pairs children;
    std::vector<std::optional<std::string>> destinations;
    std::optional<std::string> common;
    bool is_whole = true;
    for (const auto& [key, child] : node.pairs()) {
      const auto text = key_text(key);
      auto taken = below(text, child);
      const auto parent = taken.destination ? parent_of(*taken.destination, text) : std::nullopt;
      is_whole = is_whole && parent && (children.empty() || parent == common);
      common = parent;
      destinations.push_back(std::move(taken.destination));
      children.emplace_back(key, std::move(taken.value));
    }
    if (is_whole) return {common, with_children(node, std::move(children))};
    Value::Pairs stay;
    for (std::size_t i = 0; i < children.size(); ++i) {
      auto& [key, child] = children[i];
      if (!destinations[i] || *destinations[i] == path_below(key_text(key))) {
        // What everything was taken out of goes as well.
        if (has_children(child) || !has_children(node.pairs()[i].second)) {
          stay.emplace_back(std::move(key), std::move(child));
        }
      } else {
        moved_.push_back({*destinations[i], std::move(child)});
      }
    }
    return {std::nullopt, with_children(node, std::move(stay))};
  }

  Taken visit_items(const Value& node) {
    Value::Items children;
    std::optional<std::string> common;
    for (std::size_t i = 0; i < node.items().size(); ++i) {
      const auto text = fmt::to_string(i);
      auto taken = below(text, node.items()[i]);
      const auto parent = taken.destination ? parent_of(*taken.destination, text)
                                            : std::optional<std::string>(path_);
      if (!parent || (i > 0 && parent != common)) {
        fail(ErrorCode::invalid, "rename would move items of '{}' apart, which is no dict", path_);
      }
      common = parent;
      children.push_back(std::move(taken.value));
    }
    auto made = node.type() == Type::list ? Value::list(std::move(children))
                                          : Value::tuple(std::move(children));
    return {common, made.with_kind(node.kind(), node.extra())};
  }

  Taken below(const std::string& key, const Value& child) {
    const auto length = path_.size();
    path_ = path_below(key);
    starts_.push_back(path_.size() - key.size());
    auto taken = visit(child);
    starts_.pop_back();
    path_.resize(length);
    return taken;
  }

  std::string path_below(const std::string& key) const {
    return path_.empty() ? key : path_ + "." + key;
  }

  static std::optional<std::string> parent_of(const std::string& path, const std::string& key) {
    if (path == key) return std::string();
    if (!path.ends_with("." + key)) return {};
    return path.substr(0, path.size() - key.size() - 1);
  }

  std::string destination_of_leaf() const {
    auto path = with_prefix_replaced(path_, starts_);
    return rename_.function ? rename_.function(path) : path;
  }

  std::string with_prefix_replaced(const std::string& path,
                                   const std::vector<std::size_t>& starts) const {
    for (const auto start : starts) {
      for (const auto& [from, to] : rename_.prefixes) {
        // The empty prefix stands for the beginning of the whole path.
        if (path.compare(start, from.size(), from) != 0 || (from.empty() && start > 0)) continue;
        return path.substr(0, start) + to + path.substr(start + from.size());
      }
    }
    return path;
  }

  Value with_children(const Value& node, Value::Pairs children) const {
    return Value::dict(std::move(children)).with_kind(node.kind(), renamed_versions(node.extra()));
  }

  // The versions of modules, which an ordered dict of torch's has beside it, by their prefixes.
  Value renamed_versions(const Value& attributes) const {
    if (attributes.type() != Type::dict || attributes.find("_metadata") == nullptr) {
      return attributes;
    }
    Value::Pairs changed;
    for (const auto& [name, attribute] : attributes.pairs()) {
      const bool is_versions = name.type() == Type::text && name.as_text() == "_metadata" &&
                               attribute.type() == Type::dict;
      changed.emplace_back(name, is_versions ? versions_by_new_prefix(attribute) : attribute);
    }
    return Value::dict(std::move(changed)).with_kind(attributes.kind());
  }

  Value versions_by_new_prefix(const Value& versions) const {
    Value::Pairs kept, changed;
    std::set<std::string> taken;
    for (const auto& [key, version] : versions.pairs()) {
      const auto prefix = key.type() == Type::text ? key.as_text() + "." : std::string();
      auto now = with_prefix_replaced(prefix, {0});
      if (now == prefix) {
        kept.emplace_back(key, version);
        continue;
      }
      if (now.ends_with('.')) now.pop_back();
      taken.insert(now);
      changed.emplace_back(now, version);
    }
    for (auto& [key, version] : kept) {
      const bool is_free = key.type() != Type::text || !taken.contains(key.as_text());
      if (is_free) changed.emplace_back(key, version);
    }
    return Value::dict(std::move(changed)).with_kind(versions.kind(), versions.extra());
  }

  const Rename& rename_;
  std::string path_;
  std::vector<std::size_t> starts_;  // of the keys in path_
  std::vector<Moved> moved_;
};

// Puts it where the new paths say.
class Putter {
 public:
  // `place` is the path of the node, for messages; paths are below it.
  Value put(const std::string& place, const Value& node, const Value* target,
            std::vector<Moved> moved) const {
    if (moved.empty()) return node;
    if (node.type() != Type::dict) {
      fail(ErrorCode::invalid, "rename puts '{}' below '{}', which is no dict in the checkpoint",
           moved.front().path, place);
    }
    std::map<std::string, Group> groups;
    std::vector<std::string> order;
    const Keys keys(target);
    for (auto& one : moved) add(keys, std::move(one), groups, order);
    Value::Pairs pairs(node.pairs().begin(), node.pairs().end());
    std::map<std::string, std::size_t> places;
    for (std::size_t i = 0; i < pairs.size(); ++i) places[key_text(pairs[i].first)] = i;
    for (const auto& text : order) {
      auto& group = groups.at(text);
      const auto path = place.empty() ? text : place + "." + text;
      const auto found = places.find(text);
      if (group.whole.size() + (found != places.end() && !group.whole.empty()) > 1 ||
          (!group.whole.empty() && !group.below.empty())) {
        fail(ErrorCode::invalid, "rename gives two saved values the path '{}'", path);
      }
      const auto* child_target = group.target;
      if (!group.whole.empty()) {
        pairs.emplace_back(group.key, std::move(group.whole.front()));
      } else if (found != places.end()) {
        auto& child = pairs[found->second].second;
        child = put(path, child, child_target, std::move(group.below));
      } else {
        pairs.emplace_back(group.key,
                           put(path, Value::dict({}), child_target, std::move(group.below)));
      }
    }
    return Value::dict(std::move(pairs)).with_kind(node.kind(), node.extra());
  }

 private:
  struct Group {
    Value key;
    const Value* target = nullptr;  // what the caller has there
    std::vector<Value> whole;       // that get this very path
    std::vector<Moved> below;
  };
  // The keys of what the caller has at a place.
  struct Keys {
    explicit Keys(const Value* target) {
      if (target == nullptr) return;
      is_of_object = is_object(*target);
      if (target->type() != Type::dict) return;
      for (const auto& pair : target->pairs()) by_text[key_text(pair.first)] = &pair;
    }
    std::map<std::string, const Value::Pair*> by_text;
    bool is_of_object = false;  // which has names with dots
  };

  static void add(const Keys& keys, Moved moved, std::map<std::string, Group>& groups,
                  std::vector<std::string>& order) {
    // The longest key of the target that begins the path.
    const auto& path = moved.path;
    for (auto end = path.size(); end != std::string::npos && end > 0;
         end = path.rfind('.', end - 1)) {
      const auto found = keys.by_text.find(path.substr(0, end));
      if (found == keys.by_text.end()) continue;
      auto& group = group_of(found->first, groups, order);
      group.key = found->second->first;
      group.target = &found->second->second;
      if (end == path.size()) {
        group.whole.push_back(std::move(moved.value));
      } else {
        group.below.push_back({path.substr(end + 1), std::move(moved.value)});
      }
      return;
    }
    // A dict whose children have places of their own: {"w": ...} at "body" for "body.w".
    const bool has_places = !keys.by_text.empty() || keys.is_of_object;
    if (has_places && moved.value.type() == Type::dict && !moved.value.pairs().empty()) {
      for (const auto& [key, child] : moved.value.pairs()) {
        add(keys, {path.empty() ? key_text(key) : path + "." + key_text(key), child}, groups,
            order);
      }
      return;
    }
    auto& group = group_of(path, groups, order);
    group.key = Value(path);
    group.whole.push_back(std::move(moved.value));
  }

  static Group& group_of(const std::string& text, std::map<std::string, Group>& groups,
                         std::vector<std::string>& order) {
    const auto [found, is_new] = groups.try_emplace(text);
    if (is_new) order.push_back(text);
    return found->second;
  }
};

constexpr std::string_view kWrappers[] = {"_orig_mod.", "module."};

// The path without a wrapper's prefix, at any dot; and where it was.
std::vector<std::pair<std::string, std::size_t>> without(const std::string& path,
                                                         std::string_view prefix) {
  std::vector<std::pair<std::string, std::size_t>> all;
  for (auto at = path.find(prefix); at != std::string::npos; at = path.find(prefix, at + 1)) {
    if (at == 0 || path[at - 1] == '.') {
      all.emplace_back(path.substr(0, at) + path.substr(at + prefix.size()), at);
    }
  }
  return all;
}

}  // namespace

Value renamed(const Value& saved, const Value& target, const Rename& rename) {
  if (rename.is_empty()) return saved;
  Taker taker(rename);
  const auto rest = taker.run(saved);
  return Putter().put("", rest, &target, std::move(taker.moved()));
}

std::string helpful_rename(const std::vector<NamedPath>& missing,
                           const std::vector<NamedPath>& unexpected) {
  std::set<std::string> lacking, extra;
  for (const auto& m : missing) lacking.insert(m.path);
  for (const auto& u : unexpected) extra.insert(u.path);
  std::set<std::string> rules;
  for (const auto prefix : kWrappers) {
    for (const auto& u : unexpected) {
      for (const auto& [plain, at] : without(u.path, prefix)) {
        if (!lacking.contains(plain)) continue;
        const auto begin = std::min(u.key_begin, at);
        rules.insert(fmt::format("'{}': '{}'", u.path.substr(begin, at + prefix.size() - begin),
                                 u.path.substr(begin, at - begin)));
      }
    }
    for (const auto& m : missing) {
      for (const auto& [plain, at] : without(m.path, prefix)) {
        if (!extra.contains(plain)) continue;
        rules.insert(
            fmt::format("'{}': '{}{}'", m.path.substr(0, at), m.path.substr(0, at), prefix));
      }
    }
  }
  // Every compiled layer of a model may have a rule of its own: the first ones show how.
  constexpr std::size_t kMost = 3;
  std::string text;
  std::size_t n = 0;
  for (const auto& rule : rules) {
    if (n++ == kMost) break;
    text += (text.empty() ? "{" : ", ") + rule;
  }
  return text.empty() ? text : text + (rules.size() > kMost ? ", ...}" : "}");
}

}  // namespace understudy::restore
