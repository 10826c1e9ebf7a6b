#include "restore/match.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "format/tree.h"
#include "restore/families.h"
#include "restore/rename.h"
#include "restore/selection.h"
#include "transfer/convert.h"
#include "understudy/loadable.h"
#include "value/typed.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

using Type = Value::Type;

// Enough to see what went wrong; a whole model's names help nobody.
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 5;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMost; ++i) {
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  return names.size() > kMost ? text + fmt::format(" and {} more", names.size() - kMost) : text;
}

class Matcher {
 public:
  explicit Matcher(const MatchRules& rules) : rules_(rules), selection_(rules.names) {}

  Match run(const Value& target, const Value& saved) {
    result_.merged = visit({}, target, saved, false);
    // What an object that takes its part whole was not asked for says enough.
    const auto* name = result_.mismatched.empty() ? selection_.first_unseen() : nullptr;
    if (name != nullptr) {
      fail(ErrorCode::not_found,
           "neither the checkpoint nor the state given has anything named '{}'", *name);
    }
    for (const auto& one : missing_) result_.missing.push_back(one.path);
    for (const auto& one : unexpected_) result_.unexpected.push_back(one.path);
    result_.rename = helpful_rename(missing_, unexpected_);
    return std::move(result_);
  }

 private:
  // How much of it the caller wants: 2 all, 1 something in it, 0 nothing.
  int wanted(const value::Path& path) {
    if (selection_.takes_all()) return 2;
    return path.parent == nullptr ? 1 : selection_(path.str());
  }

  // `is_plain`: what is around the target is plain data.
  Value visit(const value::Path& path, const Value& target, const Value& saved, bool is_plain) {
    const bool is_part = wanted(path) == 1;
    if (is_object(target)) return take_object(path, target, saved, is_part);
    if (target.type() == Type::tensor) return visit_tensor(path, target, saved);
    if (target.kind() == Value::Kind::typed || saved.kind() == Value::Kind::typed) {
      return visit_typed(path, target, saved);
    }
    if (has_other_fields(target, saved)) {
      mismatch(path, "is a named tuple of other fields here than in the checkpoint");
      return target;
    }
    const bool is_outermost = path.parent == nullptr && target.is_container();
    is_plain = !is_part && (is_plain || (!is_outermost && is_plain_data(target)));
    if (target.type() == Type::dict && saved.type() == Type::dict) {
      return is_plain ? replace_dict(path, target, saved) : visit_dict(path, target, saved);
    }
    if (is_plain && can_replace(target, saved)) return replace(target, saved);
    if (is_sequence(target) && saved.type() == target.type()) {
      const bool is_plain_list = !is_part && target.type() == Type::list && is_plain_data(target);
      return is_plain_list ? replace(target, saved) : visit_items(path, target, saved, is_part);
    }
    mismatch(path, "is {} here and {} in the checkpoint", describe(target), describe(saved));
    return target;
  }

  // Of one type, and of classes of one name: the module may be another (`__main__`).
  static bool is_same_typed(const Value& a, const Value& b) {
    const auto *rule = value::typed_rule(a), *other = value::typed_rule(b);
    if (rule == nullptr || rule != other) return false;
    return !rule->is_class ||
           a.extra().items().back().as_text() == b.extra().items().back().as_text();
  }

  // A value is replaced by another of its type; what has a class of the caller's keeps its own
  // fields, as a dict keeps its keys.
  Value visit_typed(const value::Path& path, const Value& target, const Value& saved) {
    if (is_same_typed(target, saved)) {
      const auto name = value::typed_rule(target)->name;
      if (name == "dataclass") return visit_dict(path, target, saved);
      if (name == "tensor_subclass") return visit_subclass(path, target, saved);
      return saved;
    }
    // None stands for anything, and a pickle was all that such a value could be once.
    const bool may_replace = target.is_none() || saved.type() == Type::opaque ||
                             (saved.is_none() && is_plain_data(target));
    if (may_replace && target.kind() != Value::Kind::ellipsis) return saved;
    mismatch(path, "is {} here and {} in the checkpoint", describe(target), describe(saved));
    return target;
  }

  // What is said of the whole must be the same; its dense parts are tensors.
  Value visit_subclass(const value::Path& path, const Value& target, const Value& saved) {
    for (const char* word : {"shape", "dtype", "context"}) {
      const auto *here = target.find(word), *there = saved.find(word);
      if (here == nullptr || there == nullptr) continue;
      if (is_same_text(*here, *there) || (rules_.convert && word == std::string_view("dtype"))) {
        continue;
      }
      mismatch(path, "is {} here, of another {} than in the checkpoint", describe(target), word);
      return target;
    }
    return visit_dict(path, target, saved);
  }

  static bool is_same_text(const Value& a, const Value& b) {
    return is_plain_data(a) && is_plain_data(b) &&
           format::encode_tree(a, {}) == format::encode_tree(b, {});
  }

  Value take_object(const value::Path& path, const Value& target, const Value& saved,
                    bool is_part) {
    const auto& object = target.as_opaque().loadable;
    const auto place = path.str();
    const auto prefix = place.empty() ? place : place + ".";
    LoadPolicy policy{.strict = rules_.strict, .convert = rules_.convert};
    if (is_part && !place.empty()) {
      policy.wants = [&](const std::string& name) { return selection_(prefix + name) == 2; };
    }
    auto answer = ask(*object, saved, policy);
    const bool fits = note(place, prefix, answer);
    if (!answer.objection.empty() || (rules_.strict && !fits)) return target;
    claim_targets(path, *object, answer.state);
    result_.objects.push_back({place, object, std::move(answer.state)});
    return target;
  }

  static LoadAnswer ask(Loadable& object, const Value& saved, const LoadPolicy& policy) {
    if (auto* more = dynamic_cast<PartLoadable*>(&object)) return more->ask(saved, policy);
    LoadAnswer answer;
    answer.objection =
        policy.wants ? "it takes its part whole, and not by names" : object.check(saved);
    answer.state = saved;
    return answer;
  }

  // Takes the object's answer into the report; true when all of it fits.
  bool note(const std::string& place, const std::string& prefix, const LoadAnswer& answer) {
    std::vector<std::string> reasons;
    if (!answer.objection.empty()) {
      reasons.push_back(answer.objection);
      result_.mismatched.push_back(place);
    }
    for (const auto& name : answer.missing) missing_.push_back({prefix + name, prefix.size()});
    for (const auto& name : answer.unexpected) {
      unexpected_.push_back({prefix + name, prefix.size()});
    }
    if (!answer.missing.empty()) {
      reasons.push_back("the saved state lacks " + listed(answer.missing));
    }
    if (!answer.unexpected.empty()) reasons.push_back("it has no " + listed(answer.unexpected));
    constexpr std::size_t kMost = 5;  // sentences, as above
    std::size_t n = 0;
    for (const auto& [name, reason] : answer.mismatched) {
      result_.mismatched.push_back(prefix + name);
      if (n++ < kMost) reasons.push_back(reason);
    }
    if (n > kMost) reasons.push_back(fmt::format("{} more do not fit", n - kMost));
    if (!reasons.empty()) {
      sentence(fmt::format("'{}' cannot load its part: {}", place, fmt::join(reasons, "; ")));
    }
    return reasons.empty();
  }

  // What the object will write to may be what others write to as well.
  void claim_targets(const value::Path& path, Loadable& object, const Value& saved) {
    auto* more = dynamic_cast<PartLoadable*>(&object);
    const auto targets = more != nullptr ? more->targets() : Value();
    if (targets.type() != Type::dict || saved.type() != Type::dict) return;
    const auto parts = children_by_key(saved);
    for (const auto& [key, child] : targets.pairs()) {
      const auto found = parts.find(key_id(key));
      if (found == parts.end() || found->second->type() != Type::tensor) continue;
      const auto& from = found->second->as_tensor();
      const auto& to = child.as_tensor();
      if (from.shape() != to.shape() || !fits_dtype(from, to)) continue;
      result_.claims.push_back({value::Path{&path, &key, -1}.str(), from, to});
    }
  }

  Value visit_dict(const value::Path& path, const Value& target, const Value& saved) {
    auto left = children_by_key(saved);
    Value::Pairs merged;
    for (const auto& [key, child] : target.pairs()) {
      const value::Path below{&path, &key, -1};
      const auto found = left.find(key_id(key));
      const bool is_wanted = wanted(below) > 0;
      if (is_wanted && found == left.end()) missing(below);
      merged.emplace_back(key, is_wanted && found != left.end()
                                   ? visit(below, child, *found->second, false)
                                   : child);
      if (found != left.end()) left.erase(found);
    }
    for (const auto& [key, child] : saved.pairs()) {
      const value::Path below{&path, &key, -1};
      if (left.contains(key_id(key)) && wanted(below) > 0) unexpected(below);
    }
    return Value::dict(std::move(merged)).with_kind(target.kind(), target.extra());
  }

  // The saved keys, in the caller's kind of dict. What both have is laid over one
  // another, so that the caller's own containers stay.
  Value replace_dict(const value::Path& path, const Value& target, const Value& saved) {
    auto mine = children_by_key(target);
    const bool has_attributes = is_namespace(target);
    Value::Pairs merged;
    for (const auto& [key, child] : saved.pairs()) {
      const value::Path below{&path, &key, -1};
      if (has_attributes && key.type() != Type::text) {
        mismatch(below, "is in the checkpoint, and no name that an attribute may have");
        continue;
      }
      const auto found = mine.find(key_id(key));
      merged.emplace_back(key,
                          found == mine.end() ? child : visit(below, *found->second, child, true));
      if (found != mine.end()) mine.erase(found);
    }
    // Left as it is, without `strict`.
    for (const auto& [key, child] : target.pairs()) {
      if (rules_.strict || !mine.contains(key_id(key))) continue;
      missing({&path, &key, -1});
      merged.emplace_back(key, child);
    }
    return Value::dict(std::move(merged)).with_kind(target.kind(), target.extra());
  }

  Value visit_items(const value::Path& path, const Value& target, const Value& saved,
                    bool is_part) {
    const auto here = target.items().size(), there = saved.items().size();
    const bool may_grow = target.type() == Type::list && path.parent != nullptr && there > here &&
                          !is_part && holds_tensors_only(target);
    if (here != there && !may_grow && !is_part) {
      mismatch(path, "has {} items here and {} in the checkpoint", here, there);
      return target;
    }
    Value::Items merged;
    for (std::size_t i = 0; i < (is_part ? here : there); ++i) {
      const value::Path below{&path, nullptr, static_cast<std::int64_t>(i)};
      if (i >= here) {
        merged.push_back(saved.items()[i]);
      } else if (wanted(below) == 0) {
        merged.push_back(target.items()[i]);
      } else if (i >= there) {
        missing(below);
        merged.push_back(target.items()[i]);
      } else {
        merged.push_back(visit(below, target.items()[i], saved.items()[i], false));
      }
    }
    auto node = target.type() == Type::list ? Value::list(std::move(merged))
                                            : Value::tuple(std::move(merged));
    return node.with_kind(target.kind(), target.extra());
  }

  Value visit_tensor(const value::Path& path, const Value& target, const Value& saved) {
    const auto& to = target.as_tensor();
    if (const auto number = as_element_of(to, saved, rules_.convert)) {
      result_.copies.push_back({*number, to});
      return target;
    }
    if (saved.type() != Type::tensor) {
      mismatch(path, "is {} here and {} in the checkpoint", describe(target), describe(saved));
      return target;
    }
    const auto& from = saved.as_tensor();
    if (to.shape() == from.shape() && fits_dtype(from, to)) {
      result_.copies.push_back({from, to});
      result_.claims.push_back({path.str(), from, to});
    } else {
      const bool would_convert =
          to.shape() == from.shape() && transfer::can_convert(from.dtype(), to.dtype());
      mismatch(path, "is {} here and {} in the checkpoint{}", describe(to), describe(from),
               would_convert ? " (convert=True converts it)" : "");
    }
    return target;
  }

  bool fits_dtype(const Tensor& from, const Tensor& to) const {
    return from.dtype() == to.dtype() ||
           (rules_.convert && transfer::can_convert(from.dtype(), to.dtype()));
  }

  void missing(const value::Path& path) {
    missing_.push_back(named(path));
    sentence(fmt::format("'{}' is missing in the checkpoint", missing_.back().path));
  }
  void unexpected(const value::Path& path) {
    unexpected_.push_back(named(path));
    sentence(
        fmt::format("'{}' is in the checkpoint and not expected here", unexpected_.back().path));
  }
  template <class... Args>
  void mismatch(const value::Path& path, fmt::format_string<Args...> format, Args&&... args) {
    result_.mismatched.push_back(path.str());
    sentence(fmt::format("'{}' ", result_.mismatched.back()) +
             fmt::format(format, std::forward<Args>(args)...));
  }
  void sentence(std::string text) {
    if (rules_.strict) result_.misfits.push_back(std::move(text));
  }

  static NamedPath named(const value::Path& path) {
    const auto parent = path.parent->str();
    return {path.str(), parent.empty() ? 0 : parent.size() + 1};
  }
  static std::string key_id(const Value& key) {
    std::string id;
    value::append_key_id(id, key);
    return id;
  }
  // Sorted: keys of a file may be chosen to collide.
  static std::map<std::string, const Value*> children_by_key(const Value& dict) {
    std::map<std::string, const Value*> children;
    for (const auto& [key, child] : dict.pairs()) children[key_id(key)] = &child;
    return children;
  }

  const MatchRules& rules_;
  Selection selection_;
  std::vector<NamedPath> missing_, unexpected_;
  Match result_;
};

}  // namespace

Match match(const Value& target, const Value& saved, const MatchRules& rules) {
  return Matcher(rules).run(target, saved);
}

}  // namespace understudy::restore
