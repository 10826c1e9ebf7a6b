// Typed values: by the tables of understudy._typed.
#include <algorithm>

#include "build/build.h"
#include "core/errors.h"
#include "walk/typed.h"

namespace understudy::python {

using Kind = Value::Kind;
using Type = Value::Type;

bool has_class(const Value& value) {
  if (value.kind() == Kind::typed && value.extra().items().size() > 1) return true;
  if (value.type() == Type::dict) {
    return std::ranges::any_of(value.pairs(), [](const auto& p) { return has_class(p.second); });
  }
  return value.is_container() && std::ranges::any_of(value.items(), has_class);
}

nb::object Builder::typed(const Value& value) {
  const auto extra = tuple(value.extra());
  const auto& name = value.extra().items()[0].as_text();
  const bool is_raw = name == "array.array" || name == "random.Random";
  const bool made_bytes = std::exchange(makes_bytes_, is_raw);
  const auto fields = dict(value);
  makes_bytes_ = made_bytes;
  if (value.extra().items().size() == 1) return typed_function("make")(extra[0], fields);
  const auto type = class_of(value);
  if (!type.is_none()) return object_of(type, extra[0], fields);
  if (options_.of_classes == OfClasses::needed) {
    fail(ErrorCode::invalid,
         "it was saved with an object of {}, and there is none of that class here that would say "
         "what to make",
         typed_name(value));
  }
  return typed_function("plain_tree")(extra, fields);
}

// The caller's class may have changed since: that is no damage.
nb::object Builder::object_of(nb::handle type, nb::handle kind, nb::handle fields) {
  try {
    return typed_function("make_of_class")(kind, type, fields);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    fail(ErrorCode::invalid, "no {} can be made of what was saved: {}", name_of_type(type),
         text_of(nb::str(error.value())));
  }
}

nb::object Builder::class_of(const Value& value) {
  const auto extra = value.extra().items();
  const bool is_met = options_.of_classes == OfClasses::met;
  nb::object classes = options_.classes.is_valid() ? options_.classes : nb::dict();
  if (is_met) classes = nb::none();
  return typed_function("class_named")(classes, extra[1].as_text().c_str(),
                                       extra[2].as_text().c_str());
}

}  // namespace understudy::python
