#include "restore/cut.h"

#include <map>
#include <string>
#include <utility>

#include "ranks/ranges.h"
#include "understudy/chunk.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

std::string id_of(const Value& key) {
  std::string id;
  value::append_key_id(id, key);
  return id;
}

Value cut_node(const Value& target, const Value& saved);

Value cut_dict(const Value& target, const Value& saved) {
  std::map<std::string, const Value*> targets;
  for (const auto& [key, child] : target.pairs()) targets.emplace(id_of(key), &child);
  Value::Pairs pairs;
  for (const auto& [key, child] : saved.pairs()) {
    const auto found = targets.find(id_of(key));
    pairs.emplace_back(key, found == targets.end() ? child : cut_node(*found->second, child));
  }
  return Value::dict(std::move(pairs)).with_kind(saved.kind(), saved.extra());
}

Value cut_items(const Value& target, const Value& saved) {
  Value::Items items;
  for (const auto& child : saved.items()) {
    const auto i = items.size();
    items.push_back(i < target.items().size() ? cut_node(target.items()[i], child) : child);
  }
  auto made = saved.type() == Value::Type::list ? Value::list(std::move(items))
                                                : Value::tuple(std::move(items));
  return made.with_kind(saved.kind(), saved.extra());
}

Value cut_tensor(const Value& target, const Value& saved) {
  const auto place = chunk_of(target);
  const auto& tensor = saved.as_tensor();
  if (!place || place->shape != tensor.shape()) return saved;
  const ranks::Chunk chunk{place->offsets, target.as_tensor().shape()};
  if (!ranks::lies_within(chunk, tensor.shape())) return saved;
  return ranks::view_of(tensor, ranks::whole(tensor.shape()), chunk);
}

Value cut_node(const Value& target, const Value& saved) {
  if (target.type() != saved.type()) return saved;
  switch (saved.type()) {
    case Value::Type::dict: return cut_dict(target, saved);
    case Value::Type::list:
    case Value::Type::tuple: return cut_items(target, saved);
    case Value::Type::tensor: return cut_tensor(target, saved);
    default: return saved;
  }
}

bool has_chunks(const Value& state) {
  bool has = false;
  value::walk(state, [&](const value::Path&, const Value& node) {
    has = has || node.kind() == Value::Kind::chunk;
    return !has;
  });
  return has;
}

}  // namespace

Value cut_for(const Value& target, const Value& saved) {
  return has_chunks(target) ? cut_node(target, saved) : saved;
}

}  // namespace understudy::restore
