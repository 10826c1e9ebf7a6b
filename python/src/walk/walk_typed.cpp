// Values that their fields tell whole: dates, sparse tensors, dataclasses.
#include "walk/typed.h"

#include "core/errors.h"
#include "walk/walk.h"

namespace understudy::python {

nb::object typed_function(const char* name) {
  static auto* const module = nb::module_::import_("understudy._typed").release().ptr();
  return nb::handle(module).attr(name);
}

std::optional<TypedParts> take_typed(PyObject* o) {
  static auto* const take = typed_function("take").release().ptr();
  const auto parts = steal_or_throw(PyObject_CallFunctionObjArgs(take, o, nullptr));
  if (parts.is_none()) return {};
  return TypedParts{parts[0], parts[1], nb::cast<bool>(parts[2]), nb::cast<bool>(parts[3])};
}

// Nothing where the object is to be treated as any other.
std::optional<Value> Walker::typed(PyObject* o, const Path& path) {
  std::optional<TypedParts> parts;
  try {
    parts = take_typed(o);
  } catch (nb::python_error& error) {
    add_note(error, fmt::format("raised while the {} {} was looked into",
                                name_of_type(nb::handle(o).type()), path.place()));
    throw;
  }
  if (!parts || (is_plain_ && !parts->is_value)) return {};
  if (parts->is_class() && !takes_class(*parts)) return {};
  if (record_ != nullptr) record_->set_typed(parts->extra);
  const auto fields = [&] { return typed_fields(o, *parts, path); };
  if (!parts->is_in_place || options_.purpose != Purpose::target) return fields();
  // It is restored whole, and compared by what it is now.
  const auto purpose = std::exchange(options_.purpose, Purpose::disk);
  const Value own = fields();
  options_.purpose = purpose;
  return Value(options_.in_place(o, path.str(), own));
}

Value Walker::typed_or_opaque(PyObject* o, const Path& path) {
  auto value = typed(o, path);
  return value ? std::move(*value) : opaque(o, path);
}

bool Walker::takes_class(const TypedParts& parts) {
  const bool is_tensor = text_of(nb::str(nb::object(parts.extra[0]))) == kTensorSubclass;
  // Members of sets must be hashable when they come back, and a tree is not.
  if (is_in_set_) return false;
  // Whoever allows pickles gets the object back, and not a tree.
  return is_tensor || options_.purpose != Purpose::disk || !options_.allow_pickle;
}

Value Walker::typed_fields(PyObject* o, const TypedParts& parts, const Path& path) {
  const Path here = below(o, path);
  const bool had_parts = std::exchange(has_dense_parts_, !parts.is_class());
  if (parts.is_class()) {
    if (!classes_.is_valid()) classes_ = nb::dict();
    classes_[nb::make_tuple(parts.extra[1], parts.extra[2])] = nb::handle(o).type();
  }
  Value::Pairs pairs;
  PyObject *name = nullptr, *field = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(parts.fields.ptr(), &position, &name, &field) != 0) {
    if (record_ != nullptr) record_->add_key(name);
    const Path place{&here, name, -1, nullptr, path.depth + 1};
    pairs.emplace_back(text(name), PyMemoryView_Check(field) != 0 && has_dense_parts_
                                       ? dense_part(field)
                                       : node(field, place));
  }
  has_dense_parts_ = had_parts;
  Value::Items extra;
  for (const nb::handle part : parts.extra) extra.emplace_back(text_of(part));
  return Value::dict(std::move(pairs)).with_kind(Value::Kind::typed, Value::tuple(extra));
}

}  // namespace understudy::python
