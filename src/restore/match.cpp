#include "restore/match.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

using Type = Value::Type;

bool is_plain_data(const Value& root) {
  bool plain = true;
  value::walk(root, [&](const value::Path&, const Value& node) {
    if (node.type() == Type::tensor || node.type() == Type::opaque) plain = false;
    return plain;
  });
  return plain;
}

std::string describe(const Tensor& t) {
  return fmt::format("{} [{}]", name(t.dtype()), fmt::join(t.shape(), ", "));
}

std::string describe(const Value& v) {
  switch (v.type()) {
    case Type::tensor: return "a tensor " + describe(v.as_tensor());
    case Type::opaque: return "an object of type " + v.as_opaque().type_name;
    case Type::text: return v.kind() == Value::Kind::big_integer ? "an integer" : "a text";
    case Type::none: return "None";
    case Type::integer: return "an integer";
    default: return fmt::format("a {}", to_string(v.type()));
  }
}

class Matcher {
 public:
  Match run(const Value& target, const Value& saved) {
    result_.merged = visit({}, target, saved);
    return std::move(result_);
  }

 private:
  Value visit(const value::Path& path, const Value& target, const Value& saved) {
    if (target.type() == Type::opaque) return take_object(path, target, saved);
    if (target.type() == Type::dict && saved.type() == Type::dict) {
      return visit_dict(path, target, saved);
    }
    if (target.type() == saved.type() &&
        (target.type() == Type::list || target.type() == Type::tuple)) {
      return visit_items(path, target, saved);
    }
    if (target.type() == Type::tensor && saved.type() == Type::tensor) {
      return visit_tensor(path, target, saved);
    }
    if (is_scalar(target) && is_scalar(saved) &&
        (target.is_none() || saved.is_none() || scalar_type(target) == scalar_type(saved))) {
      return saved;
    }
    // An object saved by pickle takes the place of nothing in particular.
    if (saved.type() == Type::opaque && is_scalar(target)) return saved;
    misfit(path, "is {} here and {} in the checkpoint", describe(target), describe(saved));
    return target;
  }

  Value take_object(const value::Path& path, const Value& target, const Value& saved) {
    const auto& object = target.as_opaque().loadable;
    if (!object) return saved;
    const auto objection = object->check(saved);
    if (!objection.empty()) misfit(path, "cannot load its part: {}", objection);
    result_.objects.push_back({path.str(), object, saved});
    return target;
  }

  Value visit_dict(const value::Path& path, const Value& target, const Value& saved) {
    std::map<std::string, const Value*> left;  // sorted: keys of a file may be chosen to collide
    for (const auto& [key, child] : saved.pairs()) left[key_id(key)] = &child;
    Value::Pairs merged;
    for (const auto& [key, child] : target.pairs()) {
      const value::Path below{&path, &key, -1};
      const auto found = left.find(key_id(key));
      if (found == left.end()) {
        misfit(below, "is missing in the checkpoint");
        continue;
      }
      merged.emplace_back(key, visit(below, child, *found->second));
      left.erase(found);
    }
    for (const auto& [key, child] : saved.pairs()) {
      if (left.contains(key_id(key))) {
        misfit({&path, &key, -1}, "is in the checkpoint and not expected here");
      }
    }
    return Value::dict(std::move(merged)).with_kind(target.kind(), target.extra());
  }

  Value visit_items(const value::Path& path, const Value& target, const Value& saved) {
    if (target.type() == Type::list && is_plain_data(target) && is_plain_data(saved)) return saved;
    if (target.items().size() != saved.items().size()) {
      misfit(path, "has {} items here and {} in the checkpoint", target.items().size(),
             saved.items().size());
      return target;
    }
    Value::Items merged;
    for (std::size_t i = 0; i < target.items().size(); ++i) {
      merged.push_back(visit({&path, nullptr, static_cast<std::int64_t>(i)}, target.items()[i],
                             saved.items()[i]));
    }
    auto node = target.type() == Type::list ? Value::list(std::move(merged))
                                            : Value::tuple(std::move(merged));
    return node.with_kind(target.kind(), target.extra());
  }

  Value visit_tensor(const value::Path& path, const Value& target, const Value& saved) {
    const auto& to = target.as_tensor();
    const auto& from = saved.as_tensor();
    if (to.dtype() != from.dtype() || to.shape() != from.shape()) {
      misfit(path, "is {} here and {} in the checkpoint", describe(to), describe(from));
    } else {
      result_.copies.push_back({from, to});
    }
    return target;
  }

  template <class... Args>
  void misfit(const value::Path& path, fmt::format_string<Args...> format, Args&&... args) {
    result_.misfits.push_back(fmt::format("'{}' ", path.str()) +
                              fmt::format(format, std::forward<Args>(args)...));
  }

  static bool is_scalar(const Value& v) { return v.type() < Type::list; }
  static Type scalar_type(const Value& v) {
    const bool is_integer =
        v.kind() == Value::Kind::big_integer || v.kind() == Value::Kind::long_integer;
    return is_integer ? Type::integer : v.type();
  }
  static std::string key_id(const Value& key) {
    std::string id;
    value::append_key_id(id, key);
    return id;
  }

  Match result_;
};

}  // namespace

Match match(const Value& target, const Value& saved) {
  return Matcher().run(target, saved);
}

}  // namespace understudy::restore
