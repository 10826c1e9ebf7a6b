#include "build/assign.h"

#include "build/build.h"
#include "core/errors.h"
#include "frameworks/frameworks.h"
#include "walk/typed.h"

namespace understudy::python {
namespace {

using Kind = Value::Kind;
using Type = Value::Type;

bool are_same_items(const Value& a, const Value& b) {
  if (a.items().size() != b.items().size()) return false;
  for (std::size_t i = 0; i < a.items().size(); ++i) {
    if (!is_same(a.items()[i], b.items()[i])) return false;
  }
  return true;
}

bool are_same_pairs(const Value& a, const Value& b) {
  if (a.pairs().size() != b.pairs().size()) return false;
  for (std::size_t i = 0; i < a.pairs().size(); ++i) {
    if (!is_same(a.pairs()[i].first, b.pairs()[i].first)) return false;
    if (!is_same(a.pairs()[i].second, b.pairs()[i].second)) return false;
  }
  return true;
}

bool have_same_keys(const Value& a, const Value& b) {
  if (a.pairs().size() != b.pairs().size()) return false;
  for (std::size_t i = 0; i < a.pairs().size(); ++i) {
    if (!is_same(a.pairs()[i].first, b.pairs()[i].first)) return false;
  }
  return true;
}

bool is_namespace(const Value& v) {
  return v.kind() == Kind::simple_namespace || v.kind() == Kind::argparse_namespace;
}

}  // namespace

bool is_same(const Value& a, const Value& b) {
  if (a.type() != b.type() || a.kind() != b.kind()) return false;
  switch (a.type()) {
    case Type::none: return true;
    case Type::boolean: return a.as_boolean() == b.as_boolean();
    case Type::integer: return a.as_integer() == b.as_integer();
    case Type::text: return a.as_text() == b.as_text() && is_same(a.extra(), b.extra());
    case Type::bytes: return a.as_bytes() == b.as_bytes() && is_same(a.extra(), b.extra());
    case Type::list:
    case Type::tuple: return are_same_items(a, b) && is_same(a.extra(), b.extra());
    case Type::dict: return are_same_pairs(a, b) && is_same(a.extra(), b.extra());
    case Type::tensor: return a.as_tensor().storage() == b.as_tensor().storage();
    case Type::opaque:
      return a.as_opaque().loadable != nullptr && a.as_opaque().loadable == b.as_opaque().loadable;
    default: return false;  // floats: -0.0 and NaN are worth their bits
  }
}

Assignment::Assignment(nb::handle state, const Value& before, const Value& after,
                       nb::object classes)
    : builder_({.allow_pickle = true, .classes = std::move(classes)}) {
  builder_.guard([&] { return merge(state, before, after); });
}

// The object that shall stand where `object` stands.
nb::object Assignment::merge(nb::handle object, const Value& before, const Value& after) {
  if (is_same(before, after)) return nb::borrow(object);
  if (before.type() != after.type()) return builder_.build(after);
  if (before.kind() == Kind::typed || after.kind() == Kind::typed) {
    return merge_typed(object, before, after);
  }
  switch (before.type()) {
    case Type::dict: return merge_dict(object, before, after);
    case Type::list: return merge_list(object, before, after);
    case Type::tuple: return merge_tuple(object, before, after);
    default: return builder_.build(after);
  }
}

void Assignment::set_item(const nb::object& container, const nb::object& key,
                          const nb::object& child, const nb::object& merged) {
  if (!merged.is(child)) changes_.push_back({How::set_item, container, key, merged});
}

nb::object Assignment::merge_dict(nb::handle object, const Value& before, const Value& after) {
  nb::object container =
      is_namespace(before) ? nb::object(object.attr("__dict__")) : nb::borrow(object);
  const nb::list keys(container);
  if (nb::len(keys) != before.pairs().size()) {
    fail(ErrorCode::invalid, "a dict changed its size while it was to be restored");
  }
  if (!have_same_keys(before, after)) {
    refill_dict(container, before, after);
    return nb::borrow(object);
  }
  for (std::size_t i = 0; i < before.pairs().size(); ++i) {
    const nb::object child = container[keys[i]];
    const auto& [key, restored] = after.pairs()[i];
    set_item(container, keys[i], child, builder_.at(key, [&, &value = restored] {
      return merge(child, before.pairs()[i].second, value);
    }));
  }
  return nb::borrow(object);
}

// Other keys than before, or in another order: all of them anew, with the caller's own children
// where there are any.
void Assignment::refill_dict(const nb::object& container, const Value& before, const Value& after) {
  nb::dict places;
  std::size_t place = 0;
  for (const nb::handle key : nb::list(container)) places[key] = place++;
  nb::list pairs;
  for (const auto& [key_value, child_value] : after.pairs()) {
    const auto key = builder_.build(key_value);
    const auto child = builder_.at(key_value, [&, &value = child_value] {
      if (!places.contains(key)) return builder_.build(value);
      const auto& was = before.pairs()[nb::cast<std::size_t>(places[key])].second;
      return merge(nb::object(container[key]), was, value);
    });
    pairs.append(nb::make_tuple(key, child));
  }
  changes_.push_back({How::refill_dict, container, {}, pairs});
}

nb::object Assignment::merge_list(nb::handle object, const Value& before, const Value& after) {
  if (before.kind() == Kind::frozen_set) return builder_.build(after);
  const auto container = nb::borrow(object);
  if (before.kind() == Kind::set) {
    changes_.push_back({How::refill_set, container, {}, builder_.build(after)});
    return container;
  }
  const auto here = before.items().size(), there = after.items().size();
  nb::list items;
  for (std::size_t i = 0; i < there; ++i) {
    const auto& restored = after.items()[i];
    const nb::object child = i < here ? nb::object(object[i]) : nb::object();
    const auto merged = builder_.at(Value(static_cast<std::int64_t>(i)), [&] {
      return i < here ? merge(child, before.items()[i], restored) : builder_.build(restored);
    });
    if (here == there) set_item(container, nb::int_(i), child, merged);
    items.append(merged);
  }
  if (here != there) changes_.push_back({How::refill_list, container, {}, items});
  return container;
}

nb::object Assignment::merge_tuple(nb::handle object, const Value& before, const Value& after) {
  const bool has_items = before.kind() == Kind::plain || before.kind() == Kind::named_tuple;
  if (!has_items || before.kind() != after.kind() ||
      before.items().size() != after.items().size()) {
    return builder_.build(after);
  }
  nb::list items;
  for (std::size_t i = 0; i < before.items().size(); ++i) {
    items.append(builder_.at(Value(static_cast<std::int64_t>(i)), [&] {
      return merge(nb::object(object[i]), before.items()[i], after.items()[i]);
    }));
  }
  // The caller's own named tuple has more to it than the one we would make.
  return before.kind() == Kind::named_tuple ? nb::object(object.type().attr("_make")(items))
                                            : nb::object(nb::tuple(items));
}

// A class of the caller's stays the class of the object, whatever module the file says.
nb::object Assignment::merge_typed(nb::handle object, const Value& before, const Value& after) {
  const bool is_class = before.kind() == Kind::typed && after.kind() == Kind::typed &&
                        before.extra().items().size() > 1 &&
                        is_same(before.extra().items()[0], after.extra().items()[0]);
  if (!is_class) return builder_.build(after);
  const auto& kind = before.extra().items()[0].as_text();
  if (kind != "enum" && have_same_keys(before, after)) return merge_fields(object, before, after);
  return builder_.build(after.with_kind(Kind::typed, before.extra()));
}

nb::object Assignment::merge_fields(nb::handle object, const Value& before, const Value& after) {
  const auto& kind = before.extra().items()[0].as_text();
  const bool is_tensor = kind == kTensorSubclass;
  nb::dict changed;
  for (std::size_t i = 0; i < before.pairs().size(); ++i) {
    const auto& [key, restored] = after.pairs()[i];
    const auto& was = before.pairs()[i].second;
    // What is said of a tensor is the same; its parts have been restored.
    if (is_tensor && was.type() != Type::tensor && was.kind() != Kind::typed) continue;
    const auto name = builder_.build(key);
    const nb::object child = nb::getattr(object, name);
    const auto merged =
        builder_.at(key, [&, &value = restored] { return merge(child, was, value); });
    if (!merged.is(child)) changed[name] = merged;
  }
  if (is_tensor || nb::len(changed) == 0) return nb::borrow(object);
  const auto copy = typed_function("changed_copy")(object, changed);
  if (!copy.is_none()) return copy;  // a frozen one
  for (const auto [name, value] : changed) {
    changes_.push_back(
        {How::set_attribute, nb::borrow(object), nb::borrow(name), nb::borrow(value)});
  }
  return nb::borrow(object);
}

void Assignment::apply() {
  for (const auto& [how, container, key, value] : changes_) {
    if (how == How::set_item) {
      container[key] = value;
      continue;
    }
    if (how == How::set_attribute) {
      throw_if(PyObject_SetAttr(container.ptr(), key.ptr(), value.ptr()) != 0);
      continue;
    }
    container.attr("clear")();
    if (how == How::refill_list) container.attr("extend")(value);
    if (how == How::refill_set) container.attr("update")(value);
    if (how == How::refill_dict) {
      for (const nb::handle pair : value) container[pair[0]] = pair[1];
    }
  }
  changes_.clear();
}

void tell_overwritten(nb::python_error& error) {
  constexpr const char* kText = "the state given has been overwritten in part: it must not be used";
  add_note(error, kText);
  // Exceptions of Python 3.10 take no notes.
  if (nb::hasattr(error.value(), "add_note")) return;
  nb::module_::import_("logging").attr("getLogger")("understudy").attr("error")(kText);
}

void finish_tensors(const std::vector<WriteBack>& write_backs,
                    const std::vector<PyObject*>& torch_tensors) {
  const auto* torch = torch_if_loaded();
  for (const auto& [target, temporary] : write_backs) {
    if (torch != nullptr && nb::isinstance(target, torch->tensor)) {
      target.attr("copy_")(temporary);
    } else {
      target[nb::ellipsis()] = temporary;
    }
  }
  if (torch == nullptr || torch_tensors.empty()) return;
  const nb::object graph = torch->module.attr("autograd").attr("graph");
  if (!nb::hasattr(graph, "increment_version")) return;  // before torch 2.0
  nb::list changed;
  for (auto* tensor : torch_tensors) {
    // Tensors of inference mode have no version.
    if (!nb::cast<bool>(nb::handle(tensor).attr("is_inference")()))
      changed.append(nb::handle(tensor));
  }
  graph.attr("increment_version")(changed);
}

}  // namespace understudy::python
