#include "build/assign.h"

#include "build/build.h"
#include "frameworks/frameworks.h"

namespace understudy::python {
namespace {

using Kind = Value::Kind;
using Type = Value::Type;

bool is_same(const Value& a, const Value& b);

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

// Equal, so that the caller's object may stay. Not sure is no.
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

bool have_same_keys(const Value& a, const Value& b) {
  if (a.pairs().size() != b.pairs().size()) return false;
  for (std::size_t i = 0; i < a.pairs().size(); ++i) {
    if (!is_same(a.pairs()[i].first, b.pairs()[i].first)) return false;
  }
  return true;
}

class Assigner {
 public:
  // The object that shall stand where `object` stands.
  nb::object merge(nb::handle object, const Value& before, const Value& after) {
    if (is_same(before, after)) return nb::borrow(object);
    if (before.type() != after.type()) return builder_.build(after);
    switch (before.type()) {
      case Type::dict: return merge_dict(object, before, after);
      case Type::list: return merge_list(object, before, after);
      case Type::tuple: return merge_tuple(object, before, after);
      default: return builder_.build(after);
    }
  }

 private:
  nb::object merge_dict(nb::handle object, const Value& before, const Value& after) {
    if (!have_same_keys(before, after)) return builder_.build(after);
    const bool is_namespace =
        before.kind() == Kind::simple_namespace || before.kind() == Kind::argparse_namespace;
    nb::object container = is_namespace ? nb::object(object.attr("__dict__")) : nb::borrow(object);
    const nb::list keys(container);
    if (nb::len(keys) != before.pairs().size()) {
      fail(ErrorCode::invalid, "a dict changed its size while it was restored");
    }
    for (std::size_t i = 0; i < before.pairs().size(); ++i) {
      const nb::object child = container[keys[i]];
      const auto merged = merge(child, before.pairs()[i].second, after.pairs()[i].second);
      if (!merged.is(child)) container[keys[i]] = merged;
    }
    return nb::borrow(object);
  }

  nb::object merge_list(nb::handle object, const Value& before, const Value& after) {
    if (before.kind() == Kind::frozen_set) return builder_.build(after);
    const bool is_set = before.kind() == Kind::set;
    if (is_set || before.items().size() != after.items().size()) {
      const auto built = builder_.build(after);
      object.attr("clear")();
      object.attr(is_set ? "update" : "extend")(built);
      return nb::borrow(object);
    }
    for (std::size_t i = 0; i < before.items().size(); ++i) {
      const nb::object child = object[i];
      const auto merged = merge(child, before.items()[i], after.items()[i]);
      if (!merged.is(child)) object[i] = merged;
    }
    return nb::borrow(object);
  }

  nb::object merge_tuple(nb::handle object, const Value& before, const Value& after) {
    const bool has_items = before.kind() == Kind::plain || before.kind() == Kind::named_tuple;
    if (!has_items || before.items().size() != after.items().size()) return builder_.build(after);
    nb::list items;
    for (std::size_t i = 0; i < before.items().size(); ++i) {
      items.append(merge(nb::object(object[i]), before.items()[i], after.items()[i]));
    }
    // The caller's own named tuple has more to it than the one we would make.
    return before.kind() == Kind::named_tuple ? nb::object(object.type().attr("_make")(items))
                                              : nb::object(nb::tuple(items));
  }

  Builder builder_{{.allow_pickle = true}};
};

}  // namespace

void assign_restored(nb::handle state, const Value& before, const Value& after) {
  Assigner().merge(state, before, after);
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
