#include "build/loadable.h"

#include <set>

#include "build/build.h"
#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"
#include "frameworks/frameworks.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

std::string join(const std::set<std::string>& names) {
  // Enough to see what went wrong; a whole model's names help nobody.
  constexpr std::size_t kMost = 5;
  std::string text;
  std::size_t n = 0;
  for (const auto& name : names) {
    if (n++ == kMost) return text + fmt::format(" and {} more", names.size() - kMost);
    text += (text.empty() ? "'" : ", '") + name + "'";
  }
  return text;
}

std::string dims_text(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

// Names of `a` that `b` lacks.
std::set<std::string> missing(const Value& a, const Value& b) {
  std::set<std::string> names;
  for (const auto& [key, child] : b.pairs()) {
    if (key.type() == Value::Type::text) names.insert(key.as_text());
  }
  std::set<std::string> lacking;
  for (const auto& [key, child] : a.pairs()) {
    if (key.type() == Value::Type::text && !names.contains(key.as_text()))
      lacking.insert(key.as_text());
  }
  return lacking;
}

// A module loads strictly: any misfit would stop it half-way.
std::string check_module(nb::handle module, const Value& state) {
  if (state.type() != Value::Type::dict)
    return "the saved state is no dict, but a module needs one";
  const Value own = Walker(walking_for_target()).walk(module.attr("state_dict")());
  if (const auto names = missing(own, state); !names.empty())
    return "the saved state lacks " + join(names);
  if (const auto names = missing(state, own); !names.empty())
    return "the module has no " + join(names);
  for (const auto& [key, child] : own.pairs()) {
    if (child.type() != Value::Type::tensor) continue;
    const auto& saved = state.at(key.as_text());
    if (saved.type() != Value::Type::tensor)
      return fmt::format("'{}' was saved as no tensor", key.as_text());
    if (saved.as_tensor().shape() != child.as_tensor().shape()) {
      return fmt::format("'{}' has shape {} here, but was saved with {}", key.as_text(),
                         dims_text(child.as_tensor().shape()),
                         dims_text(saved.as_tensor().shape()));
    }
  }
  return {};
}

std::string check_optimizer(nb::handle optimizer, const Value& state) {
  const auto* groups = state.type() == Value::Type::dict ? state.find("param_groups") : nullptr;
  if (groups == nullptr || groups->type() != Value::Type::list || state.find("state") == nullptr) {
    return "the saved state is not that of an optimizer";
  }
  const nb::object own = optimizer.attr("param_groups");
  if (nb::len(own) != groups->items().size()) {
    return fmt::format("it has {} parameter groups, but {} were saved", nb::len(own),
                       groups->items().size());
  }
  std::size_t i = 0;
  for (const auto& group : groups->items()) {
    const auto* saved = group.type() == Value::Type::dict ? group.find("params") : nullptr;
    if (saved == nullptr || !saved->is_container() || saved->type() == Value::Type::dict) {
      return fmt::format("the saved parameter group {} has no list of parameters", i);
    }
    const nb::object params = own[i]["params"];
    const auto count = nb::len(params);
    if (count != saved->items().size()) {
      return fmt::format("its parameter group {} has {} parameters, but {} were saved", i, count,
                         saved->items().size());
    }
    ++i;
  }
  return {};
}

class PythonLoadable : public Loadable {
 public:
  PythonLoadable(nb::handle object, std::string place)
      : object_(hold(nb::borrow(object))), place_(std::move(place)) {}

  std::string check(const Value& state) override {
    WithGil gil;
    const auto* torch = torch_if_loaded();
    if (torch == nullptr) return {};
    if (nb::isinstance(object(), torch->module.attr("nn").attr("Module")))
      return check_module(object(), state);
    if (nb::isinstance(object(), torch->module.attr("optim").attr("Optimizer"))) {
      return check_optimizer(object(), state);
    }
    return {};
  }

  void load(const Value& state) override {
    WithGil gil;
    const nb::object built = Builder({.allow_pickle = true}).build(state);
    try {
      parked_at_exit([&] { object().attr("load_state_dict")(built); });
    } catch (nb::python_error& error) {
      add_note(error, fmt::format(
                          "raised by load_state_dict() of the {} {}", name_of_type(object().type()),
                          place_.empty() ? "at the top of the state" : "at '" + place_ + "'"));
      throw;
    }
  }

 private:
  nb::handle object() const { return static_cast<PyObject*>(object_.get()); }

  std::shared_ptr<void> object_;
  std::string place_;
};

}  // namespace

WalkOptions walking_for_target() {
  return {.purpose = Purpose::target, .loadable = loadable_leaf};
}

Opaque loadable_leaf(nb::handle object, std::string place) {
  Opaque leaf;
  leaf.type_name = name_of_type(object.type());
  leaf.loadable = std::make_shared<PythonLoadable>(object, std::move(place));
  return leaf;
}

}  // namespace understudy::python
