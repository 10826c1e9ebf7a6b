#include "restore/lay_over.h"

#include <algorithm>
#include <map>
#include <utility>

#include "restore/families.h"
#include "restore/selection.h"
#include "understudy/loadable.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

std::string id_of(const Value& key) {
  std::string id;
  value::append_key_id(id, key);
  return id;
}

PartLoadable* object_of(const Value& target) {
  if (target.type() != Value::Type::opaque) return nullptr;
  return dynamic_cast<PartLoadable*>(target.as_opaque().loadable.get());
}

class Layer {
 public:
  Layer(const std::vector<std::string>& names, const Wants& wants, const MakeLeaf& make_leaf)
      : selection_(names), wants_(wants), make_leaf_(make_leaf) {}

  // `is_replaced`: what is around the target takes whatever keys were saved.
  Value visit(const value::Path& path, const Value& target, const Value& saved, bool is_replaced) {
    if (!saved.is_container()) return make_leaf_(saved, {&target, true});
    if (const auto* object = object_of(target)) {
      const auto found = wants_.find(object);
      if (found != wants_.end()) return visit_part(found->second, saved);
    }
    if (target.type() != saved.type()) return all(saved, true);
    is_replaced = is_replaced || target.kind() == Value::Kind::typed || is_plain_data(target);
    return saved.type() == Value::Type::dict ? visit_dict(path, target, saved, is_replaced)
                                             : visit_items(path, target, saved, is_replaced);
  }

 private:
  // Leaves of which the target has none by themselves.
  Value all(const Value& saved, bool is_wanted) const {
    return value::map_leaves(saved, [&](const Value& leaf) {
      return make_leaf_(leaf, {nullptr, is_wanted});
    });
  }

  // Of an object's part: `wanted` has chunks where it wants no whole tensors.
  Value visit_part(const Value& wanted, const Value& saved) const {
    if (!saved.is_container()) return make_leaf_(saved, {&wanted, true, true});
    if (wanted.type() != saved.type()) return all(saved, true);
    if (saved.type() != Value::Type::dict) {
      Value::Items items;
      for (const auto& child : saved.items()) {
        const auto i = items.size();
        items.push_back(visit_part(i < wanted.items().size() ? wanted.items()[i] : Value(), child));
      }
      auto made = saved.type() == Value::Type::list ? Value::list(std::move(items))
                                                    : Value::tuple(std::move(items));
      return made.with_kind(saved.kind(), saved.extra());
    }
    std::map<std::string, const Value*> children;
    for (const auto& [key, child] : wanted.pairs()) children.emplace(id_of(key), &child);
    Value::Pairs pairs;
    for (const auto& [key, child] : saved.pairs()) {
      const auto found = children.find(id_of(key));
      pairs.emplace_back(key,
                         visit_part(found != children.end() ? *found->second : Value(), child));
    }
    return Value::dict(std::move(pairs)).with_kind(saved.kind(), saved.extra());
  }

  bool is_named(const value::Path& path) {
    return selection_.takes_all() || selection_(path.str()) > 0;
  }

  Value visit_dict(const value::Path& path, const Value& target, const Value& saved,
                   bool is_replaced) {
    std::map<std::string, const Value*> targets;
    for (const auto& [key, child] : target.pairs()) targets.emplace(id_of(key), &child);
    Value::Pairs pairs;
    for (const auto& [key, child] : saved.pairs()) {
      const value::Path below{&path, &key, -1};
      const auto found = targets.find(id_of(key));
      const bool is_wanted = (found != targets.end() || is_replaced) && is_named(below);
      pairs.emplace_back(key, is_wanted && found != targets.end()
                                  ? visit(below, *found->second, child, is_replaced)
                                  : all(child, is_wanted));
    }
    return Value::dict(std::move(pairs)).with_kind(saved.kind(), saved.extra());
  }

  Value visit_items(const value::Path& path, const Value& target, const Value& saved,
                    bool is_replaced) {
    Value::Items items;
    for (const auto& child : saved.items()) {
      const auto i = items.size();
      const value::Path below{&path, nullptr, static_cast<std::int64_t>(i)};
      if (!is_named(below)) {
        items.push_back(all(child, false));
      } else {
        items.push_back(i < target.items().size()
                            ? visit(below, target.items()[i], child, is_replaced)
                            : all(child, true));
      }
    }
    auto made = saved.type() == Value::Type::list ? Value::list(std::move(items))
                                                  : Value::tuple(std::move(items));
    return made.with_kind(saved.kind(), saved.extra());
  }

  Selection selection_;
  const Wants& wants_;
  const MakeLeaf& make_leaf_;
};

void ask(const Value& target, const Value& saved,
         const std::function<Value(const Value& leaf)>& stand_in, Wants& wants) {
  if (auto* object = object_of(target)) {
    auto wanted = object->wanted(value::map_leaves(saved, stand_in));
    if (!wanted.is_none()) wants.emplace(object, std::move(wanted));
    return;
  }
  if (target.type() != saved.type() || !saved.is_container()) return;
  if (saved.type() != Value::Type::dict) {
    const auto count = std::min(target.items().size(), saved.items().size());
    for (std::size_t i = 0; i < count; ++i) {
      ask(target.items()[i], saved.items()[i], stand_in, wants);
    }
    return;
  }
  std::map<std::string, const Value*> parts;
  for (const auto& [key, child] : saved.pairs()) parts.emplace(id_of(key), &child);
  for (const auto& [key, child] : target.pairs()) {
    const auto found = parts.find(id_of(key));
    if (found != parts.end()) ask(child, *found->second, stand_in, wants);
  }
}

}  // namespace

Wants wants_of(const Value& target, const Value& saved,
               const std::function<Value(const Value& leaf)>& stand_in) {
  Wants wants;
  ask(target, saved, stand_in, wants);
  return wants;
}

Value lay_over(const Value& target, const Value& saved, const std::vector<std::string>& names,
               const Wants& wants, const MakeLeaf& make_leaf) {
  return Layer(names, wants, make_leaf).visit({}, target, saved, false);
}

Value part_for(const Counterpart& counterpart, Tensor part, const ChunkPlace& place) {
  return counterpart.is_of_object ? chunk(std::move(part), place) : Value(std::move(part));
}

std::optional<ranks::Chunk> chunk_wanted(const Value* target, const Dims& shape) {
  if (target == nullptr || target->type() != Value::Type::tensor) return {};
  const auto place = chunk_of(*target);
  if (!place || place->shape != shape) return {};
  ranks::Chunk chunk{place->offsets, target->as_tensor().shape()};
  return ranks::lies_within(chunk, shape) ? std::optional(std::move(chunk)) : std::nullopt;
}

}  // namespace understudy::restore
