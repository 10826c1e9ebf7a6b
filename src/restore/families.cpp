#include "restore/families.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "transfer/convert.h"

namespace understudy::restore {
namespace {

using Kind = Value::Kind;
using Type = Value::Type;

// True when `holds` is true of no leaf.
template <class Holds>
bool none_of_leaves(const Value& v, const Holds& holds) {
  if (v.type() == Type::dict) {
    return std::ranges::all_of(v.pairs(),
                               [&](const auto& p) { return none_of_leaves(p.second, holds); });
  }
  if (v.is_container()) {
    return std::ranges::all_of(v.items(),
                               [&](const auto& child) { return none_of_leaves(child, holds); });
  }
  return !holds(v);
}

enum class Family { none, number, text, bytes, sequence, dict, other };

// What NumPy's letter says of a scalar: "<f4", "|S3".
Family family_of_scalar(const std::string& dtype) {
  const char letter = dtype.size() > 1 ? dtype[1] : '\0';
  if (letter == 'U') return Family::text;
  if (letter == 'S') return Family::bytes;
  return std::string_view("biufc").find(letter) != std::string_view::npos ? Family::number
                                                                          : Family::other;
}

Family family_of(const Value& v) {
  switch (v.type()) {
    case Type::none: return v.kind() == Kind::ellipsis ? Family::other : Family::none;
    case Type::boolean:
    case Type::integer:
    case Type::floating:
    case Type::complex: return Family::number;
    case Type::text: return v.kind() == Kind::big_integer ? Family::number : Family::text;
    case Type::bytes:
      if (v.kind() == Kind::surrogate_text) return Family::text;
      if (v.kind() == Kind::long_integer) return Family::number;
      return v.kind() == Kind::numpy_scalar && v.extra().type() == Type::text
                 ? family_of_scalar(v.extra().as_text())
                 : Family::bytes;
    case Type::list:
    case Type::tuple: return Family::sequence;
    case Type::dict: return Family::dict;
    // Numbers are often kept in them: the best loss, a running mean.
    case Type::tensor: return v.as_tensor().shape().empty() ? Family::number : Family::other;
    case Type::opaque: return Family::other;
  }
  return Family::other;
}

template <class T>
Tensor element_of(DType dtype, const T& value) {
  auto made = Tensor::zeros(dtype, {});
  std::memcpy(made.data(), &value, sizeof value);
  return made;
}

// A number that is no tensor, as a tensor without dimensions.
std::optional<Tensor> element(const Value& v) {
  switch (v.type()) {
    case Type::boolean: return element_of(DType::boolean, v.as_boolean());
    case Type::integer: return element_of(DType::i64, v.as_integer());
    case Type::floating: return element_of(DType::f64, v.as_floating());
    case Type::complex: return element_of(DType::c128, v.as_complex());
    default: return {};
  }
}

}  // namespace

bool is_object(const Value& v) noexcept {
  return v.type() == Type::opaque && v.as_opaque().loadable;
}

bool is_sequence(const Value& v) noexcept {
  return v.type() == Type::list || v.type() == Type::tuple;
}

bool is_namespace(const Value& v) noexcept {
  return v.kind() == Kind::simple_namespace || v.kind() == Kind::argparse_namespace;
}

bool is_plain_data(const Value& v) {
  return none_of_leaves(
      v, [](const Value& leaf) { return leaf.type() == Type::tensor || is_object(leaf); });
}

bool holds_tensors_only(const Value& v) {
  return none_of_leaves(
      v, [](const Value& leaf) { return leaf.kind() == Kind::parameter || is_object(leaf); });
}

bool can_replace(const Value& target, const Value& saved) {
  // An object saved by pickle takes the place of nothing in particular.
  const bool is_pickle = saved.type() == Type::opaque || target.type() == Type::opaque;
  if (is_pickle) return !target.is_container();
  const auto here = family_of(target), there = family_of(saved);
  if (here == Family::none || there == Family::none) return true;
  return here == there && (here != Family::other || target.kind() == saved.kind());
}

Value replace(const Value& target, const Value& saved) {
  if (!is_sequence(target) || !is_sequence(saved)) return saved;
  // A slice, a range and the like are not made of any items.
  if (target.type() == Type::tuple && target.kind() != Kind::plain) return saved;
  Value::Items items(saved.items().begin(), saved.items().end());
  if (target.type() == Type::tuple) return Value::tuple(std::move(items));
  return Value::list(std::move(items)).with_kind(target.kind(), target.extra());
}

bool has_other_fields(const Value& a, const Value& b) {
  if (a.kind() != Kind::named_tuple || b.kind() != Kind::named_tuple) return false;
  const auto name_of = [](const Value& v) { return v.as_text(); };
  // The first is the type's name, which may be another.
  return !std::ranges::equal(a.extra().items().subspan(1), b.extra().items().subspan(1), {},
                             name_of, name_of);
}

std::optional<Tensor> as_element_of(const Tensor& target, const Value& saved,
                                    bool is_rounding_fine) {
  if (!target.shape().empty()) return {};
  const auto number = element(saved);
  if (!number) return {};
  if (number->dtype() == target.dtype()) return number;
  if (!transfer::can_convert(number->dtype(), target.dtype())) return {};
  auto made = Tensor::zeros(target.dtype(), {});
  transfer::convert_tensor(*number, made);
  if (is_rounding_fine) return made;
  // There and back again: what is still the same was held exactly.
  if (!transfer::can_convert(target.dtype(), number->dtype())) return {};
  const auto back = Tensor::zeros(number->dtype(), {});
  transfer::convert_tensor(made, back);
  if (std::memcmp(back.data(), number->data(), back.nbytes()) != 0) return {};
  return made;
}

std::string describe(const Tensor& t) {
  return fmt::format("{} [{}]", name(t.dtype()), fmt::join(t.shape(), ", "));
}

std::string describe(const Value& v) {
  if (v.kind() == Kind::typed) return "a " + typed_name(v);
  switch (v.type()) {
    case Type::tensor: return "a tensor " + describe(v.as_tensor());
    case Type::opaque: return "an object of type " + v.as_opaque().type_name;
    case Type::text: return v.kind() == Kind::big_integer ? "an integer" : "a text";
    case Type::bytes: return v.kind() == Kind::long_integer ? "an integer" : "a bytes";
    case Type::none: return "None";
    case Type::integer: return "an integer";
    default: return fmt::format("a {}", to_string(v.type()));
  }
}

}  // namespace understudy::restore
