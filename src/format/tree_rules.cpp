#include "format/tree_rules.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "value/typed.h"

namespace understudy::format {
namespace {

using Type = Value::Type;
using Kind = Value::Kind;

enum class Extra { none, text, text_or_none, integer_or_none, dict_or_none, boolean, texts };

struct Rule {
  Kind kind;
  Type type;
  Extra extra;
};

constexpr Rule kRules[] = {
    {Kind::big_integer, Type::text, Extra::none},
    {Kind::surrogate_text, Type::bytes, Extra::none},
    {Kind::byte_array, Type::bytes, Extra::none},
    {Kind::ordered_dict, Type::dict, Extra::dict_or_none},
    {Kind::default_dict, Type::dict, Extra::text_or_none},
    {Kind::counter, Type::dict, Extra::none},
    {Kind::simple_namespace, Type::dict, Extra::none},
    {Kind::argparse_namespace, Type::dict, Extra::none},
    {Kind::deque, Type::list, Extra::integer_or_none},
    {Kind::set, Type::list, Extra::none},
    {Kind::frozen_set, Type::list, Extra::none},
    {Kind::named_tuple, Type::tuple, Extra::texts},
    {Kind::torch_size, Type::tuple, Extra::none},
    {Kind::torch_dtype, Type::text, Extra::none},
    {Kind::torch_device, Type::text, Extra::none},
    {Kind::numpy_scalar, Type::bytes, Extra::text},
    {Kind::numpy_dtype, Type::text, Extra::none},
    {Kind::path, Type::text, Extra::text},
    {Kind::numpy_array, Type::tensor, Extra::none},
    {Kind::parameter, Type::tensor, Extra::boolean},
    {Kind::slice, Type::tuple, Extra::none},
    {Kind::range, Type::tuple, Extra::none},
    {Kind::ellipsis, Type::none, Extra::none},
    {Kind::long_integer, Type::bytes, Extra::none},
    {Kind::typed, Type::dict, Extra::texts},
};

bool is_plain(const Value& value, Type type) noexcept {
  return value.type() == type && value.kind() == Kind::plain;
}

bool extra_fits(Extra wanted, const Value& extra) {
  switch (wanted) {
    case Extra::none: return is_plain(extra, Type::none);
    case Extra::text: return is_plain(extra, Type::text);
    case Extra::text_or_none: return is_plain(extra, Type::text) || is_plain(extra, Type::none);
    case Extra::integer_or_none:
      return is_plain(extra, Type::none) ||
             (is_plain(extra, Type::integer) && extra.as_integer() >= 0);
    case Extra::dict_or_none: return is_plain(extra, Type::dict) || is_plain(extra, Type::none);
    case Extra::boolean: return is_plain(extra, Type::boolean);
    case Extra::texts:
      return is_plain(extra, Type::tuple) && std::ranges::all_of(extra.items(), [](const Value& v) {
               return is_plain(v, Type::text);
             });
  }
  return false;
}

bool all_integers(std::span<const Value> items) {
  return std::ranges::all_of(items, [](const Value& v) { return is_plain(v, Type::integer); });
}

bool is_decimal(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text[0] != '0' &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool content_fits(Kind kind, const Value& extra, const Value& node) {
  switch (kind) {
    case Kind::big_integer: return is_decimal(node.as_text());
    case Kind::deque:
      return extra.is_none() ||
             node.items().size() <= static_cast<std::uint64_t>(extra.as_integer());
    case Kind::set:
    case Kind::frozen_set:
      return std::ranges::all_of(node.items(), [](const Value& v) { return is_hashable(v, true); });
    // The type's name, then the fields.
    case Kind::named_tuple: return extra.items().size() == node.items().size() + 1;
    case Kind::torch_size: return all_integers(node.items());
    case Kind::slice: return node.items().size() == 3;
    case Kind::range: return node.items().size() == 3 && all_integers(node.items());
    case Kind::typed:
      return std::ranges::all_of(node.pairs(),
                                 [](const auto& pair) { return is_plain(pair.first, Type::text); });
    default: return true;
  }
}

}  // namespace

std::optional<Kind> kind_from_name(std::string_view name) noexcept {
  for (const auto& rule : kRules) {
    if (to_string(rule.kind) == name) return rule.kind;
  }
  return {};
}

std::string kind_problem(Kind kind, const Value& extra, Type type, const Value* node) {
  const auto rule = std::ranges::find(kRules, kind, &Rule::kind);
  if (rule == std::end(kRules)) {
    return extra.is_none() ? "" : "a plain node has an extra value";
  }
  if (rule->type != type) {
    return format_text("the kind {} lies over type {}, not {}", to_string(kind), to_string(type),
                       to_string(rule->type));
  }
  if (!extra_fits(rule->extra, extra)) {
    return format_text("the kind {} has an extra value of the wrong form", to_string(kind));
  }
  if (kind == Kind::typed) {
    const auto problem = typed_problem(extra);
    if (!problem.empty()) return problem;
  }
  if (node != nullptr && node->type() == type && !content_fits(kind, extra, *node)) {
    return format_text("the kind {} lies over a {} that it cannot be", to_string(kind),
                       to_string(type));
  }
  return "";
}

std::string typed_problem(const Value& extra) {
  if (!extra_fits(Extra::texts, extra) || extra.items().empty()) {
    return "a typed value does not say what it is";
  }
  const auto& name = extra.items()[0].as_text();
  const auto* rule = value::find_typed(name);
  if (rule == nullptr) return format_text("a value of type {}, which is unknown", in_quotes(name));
  if (extra.items().size() == (rule->is_class ? 3 : 1)) return "";
  return format_text("a value of type {} {} a class", in_quotes(name),
                     rule->is_class ? "does not name" : "names");
}

bool is_hashable(const Value& value, bool in_set) noexcept {
  switch (value.type()) {
    case Type::none:
    case Type::boolean:
    case Type::integer:
    case Type::floating:
    case Type::complex:
    case Type::text: return true;
    case Type::bytes: return value.kind() != Kind::byte_array;
    // Its members were looked at when it was made.
    case Type::list: return value.kind() == Kind::frozen_set;
    case Type::tuple:
      return std::ranges::all_of(value.items(),
                                 [&](const Value& v) { return is_hashable(v, in_set); });
    case Type::dict: {
      const auto* rule = value::typed_rule(value);
      return rule != nullptr && rule->is_hashable &&
             std::ranges::all_of(
                 value.pairs(), [&](const auto& pair) { return is_hashable(pair.second, in_set); });
    }
    case Type::tensor:
    case Type::opaque: return in_set;
  }
  return false;
}

}  // namespace understudy::format
