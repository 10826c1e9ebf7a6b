#include "build/loadable.h"

#include <utility>

#include "build/assign.h"
#include "build/build.h"
#include "build/check_parts.h"
#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"
#include "frameworks/frameworks.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

class PythonLoadable : public PartLoadable {
 public:
  PythonLoadable(nb::handle object, std::string place, std::shared_ptr<const TargetMemory> beside)
      : object_(hold(nb::borrow(object))), place_(std::move(place)), beside_(std::move(beside)) {}

  LoadAnswer ask(const Value& state, const LoadPolicy& policy) override {
    WithGil gil;
    const auto* torch = torch_if_loaded();
    is_in_part_ = false;
    LoadAnswer answer;
    answer.state = state;
    if (torch != nullptr && is_a(*torch, "nn", "Module")) {
      is_in_part_ = !policy.strict || policy.wants;
      is_in_part_ = is_in_part_ &&
                    !has_own(torch->module.attr("nn").attr("Module"), object(), "load_state_dict");
      return ask_module(*torch, object(), state, policy);
    }
    if (policy.wants) {
      answer.objection = kTakesItsPartWhole;
    } else if (torch != nullptr && is_a(*torch, "optim", "Optimizer")) {
      answer.objection = check_optimizer(*torch, object(), state, policy.convert);
    }
    return answer;
  }

  Value targets() override {
    WithGil gil;
    const auto* torch = torch_if_loaded();
    if (torch == nullptr || !is_a(*torch, "nn", "Module")) return {};
    return tensors_of_module(object());
  }

  Value wanted(const Value& state) override {
    WithGil gil;
    dtensors_ = {};
    if (!dtensor_type().is_valid()) return {};
    const auto* torch = torch_if_loaded();
    is_module_ = is_a(*torch, "nn", "Module");
    const bool is_optimizer = is_a(*torch, "optim", "Optimizer");
    const nb::object saved = is_optimizer ? shapes_of_optimizer(state) : nb::none();
    if (is_optimizer && saved.is_none()) return {};
    nb::object own = dtensors("own")(object(), saved);
    if (own.is_none()) return {};
    auto value = Walker(walking_for_target()).walk(own);
    dtensors_ = hold(std::move(own));
    return value;
  }

  void prepare(const Value& state) override {
    WithGil gil;
    try {
      auto built = Builder(building(state)).build(state);
      if (dtensors_) {
        const nb::handle own = static_cast<PyObject*>(dtensors_.get());
        built = dtensors("fill")(built, own, nb::arg("keeps") = !is_module_);
      }
      built_ = hold(std::move(built));
    } catch (const Error& error) {
      fail(error.code(), "the part of the {} {}: {}", name_of_type(object().type()), where(),
           error.what());
    }
  }

  void load(const Value&) override {
    WithGil gil;
    const auto built = nb::borrow(static_cast<PyObject*>(std::exchange(built_, {}).get()));
    saying_overwritten([&] {
      try {
        if (is_in_part_) {
          object().attr("load_state_dict")(built, nb::arg("strict") = false);
        } else {
          object().attr("load_state_dict")(built);
        }
      } catch (nb::python_error& error) {
        add_note(error, fmt::format("raised by load_state_dict() of the {} {}",
                                    name_of_type(object().type()), where()));
        throw;
      }
      beside_->require_unchanged();
    });
  }

 private:
  // The classes of typed values are those of the object's own state.
  BuildOptions building(const Value& state) const {
    BuildOptions options{.allow_pickle = true, .of_classes = OfClasses::needed};
    if (!has_class(state)) return options;
    Walker walker({.purpose = Purpose::disk});
    walker.walk(nb::object(object().attr("state_dict")()));
    options.classes = walker.classes();
    return options;
  }

  static nb::object dtensors(const char* function) {
    return nb::module_::import_("understudy._dtensors").attr(function);
  }

  nb::handle object() const { return static_cast<PyObject*>(object_.get()); }

  bool is_a(const Torch& torch, const char* module, const char* type) const {
    return nb::isinstance(object(), torch.module.attr(module).attr(type));
  }
  std::string where() const {
    return place_.empty() ? "at the top of the state" : "at '" + place_ + "'";
  }

  std::shared_ptr<void> object_;
  std::shared_ptr<void> built_;
  std::shared_ptr<void> dtensors_;  // that the object has, in containers like those of its state
  bool is_in_part_ = false;
  bool is_module_ = false;
  std::string place_;
  std::shared_ptr<const TargetMemory> beside_;
};

}  // namespace

WalkOptions walking_for_target() {
  return {.purpose = Purpose::target,
          .takes_chunks = true,
          .loadable = loadable_leaf,
          .in_place = in_place_leaf};
}

Opaque loadable_leaf(nb::handle object, std::string place,
                     std::shared_ptr<const TargetMemory> beside) {
  Opaque leaf;
  leaf.type_name = name_of_type(object.type());
  leaf.loadable = std::make_shared<PythonLoadable>(object, std::move(place), std::move(beside));
  return leaf;
}

}  // namespace understudy::python
