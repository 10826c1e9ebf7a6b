#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

#include "build/check_parts.h"
#include "core/errors.h"

namespace understudy::python {
namespace {

using Type = Value::Type;

// What the optimizers of torch.optim make by zeros_like(parameter).
bool is_like_its_parameter(std::string_view key) {
  static constexpr std::array kKeys = {
      "exp_avg",    "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer",
      "square_avg", "grad_avg",   "acc_delta",      "sum",     "ax",
      "prev",       "step_size"};
  return std::ranges::find(kKeys, key) != kKeys.end();
}

std::string misfit_of(nb::handle parameter, std::int64_t number, const Value& saved, bool convert) {
  if (saved.type() != Type::dict) return {};
  Dims shape;
  for (const nb::handle n : nb::object(parameter.attr("shape"))) {
    shape.push_back(nb::cast<std::int64_t>(n));
  }
  auto dtype = text_of(nb::str(nb::object(parameter.attr("dtype"))));
  dtype = dtype.substr(dtype.find('.') + 1);
  for (const auto& [key, child] : saved.pairs()) {
    const bool is_certain = key.type() == Type::text && child.type() == Type::tensor &&
                            is_like_its_parameter(key.as_text());
    if (!is_certain) continue;
    const auto& tensor = child.as_tensor();
    if (saved_shape(child) != shape) {
      return fmt::format("'{}' of parameter {} was saved with shape {}, but the parameter has {}",
                         key.as_text(), number, dims_text(saved_shape(child)), dims_text(shape));
    }
    if (!convert && name(tensor.dtype()) != dtype) {
      return fmt::format(
          "'{}' of parameter {} was saved as {}, but the parameter is {} "
          "(convert=True converts it)",
          key.as_text(), number, name(tensor.dtype()), dtype);
    }
  }
  return {};
}

// The states of parameters by the numbers that param_groups gives them.
std::unordered_map<std::int64_t, const Value*> states_by_number(const Value& states) {
  std::unordered_map<std::int64_t, const Value*> found;
  if (states.type() != Type::dict) return found;
  for (const auto& [key, child] : states.pairs()) {
    if (key.type() == Type::integer) found[key.as_integer()] = &child;
  }
  return found;
}

}  // namespace

std::string check_optimizer(const Torch& torch, nb::handle optimizer, const Value& state,
                            bool convert) {
  const nb::object base = torch.module.attr("optim").attr("Optimizer");
  const nb::object hooks =
      nb::getattr(optimizer, "_optimizer_load_state_dict_pre_hooks", nb::none());
  const bool has_hooks = !hooks.is_none() && nb::len(hooks) > 0;
  if (has_hooks || has_own(base, optimizer, "load_state_dict")) return {};
  const auto* groups = state.type() == Type::dict ? state.find("param_groups") : nullptr;
  const auto* states = state.type() == Type::dict ? state.find("state") : nullptr;
  if (groups == nullptr || groups->type() != Type::list || states == nullptr) {
    return "the saved state is not that of an optimizer";
  }
  const nb::object own = optimizer.attr("param_groups");
  if (nb::len(own) != groups->items().size()) {
    return fmt::format("it has {} parameter groups, but {} were saved", nb::len(own),
                       groups->items().size());
  }
  // Of others it is not known what their states look like.
  const bool is_of_torch = name_of_type(optimizer.type()).starts_with("torch.optim.");
  const auto by_number = states_by_number(*states);
  std::size_t i = 0;
  for (const auto& group : groups->items()) {
    const auto* saved = group.type() == Type::dict ? group.find("params") : nullptr;
    if (saved == nullptr || !saved->is_container() || saved->type() == Type::dict) {
      return fmt::format("the saved parameter group {} has no list of parameters", i);
    }
    const nb::object params = own[i]["params"];
    const auto count = nb::len(params);
    if (count != saved->items().size()) {
      return fmt::format("its parameter group {} has {} parameters, but {} were saved", i, count,
                         saved->items().size());
    }
    for (std::size_t p = 0; is_of_torch && p < count; ++p) {
      const auto& number = saved->items()[p];
      if (number.type() != Type::integer) continue;
      const auto found = by_number.find(number.as_integer());
      if (found == by_number.end()) continue;
      const auto misfit =
          misfit_of(nb::object(params[p]), number.as_integer(), *found->second, convert);
      if (!misfit.empty()) return misfit;
    }
    ++i;
  }
  return {};
}

nb::object shapes_of_optimizer(const Value& state) {
  nb::list groups;
  nb::dict shapes;
  const auto* saved = state.type() == Type::dict ? state.find("param_groups") : nullptr;
  const auto* states = state.type() == Type::dict ? state.find("state") : nullptr;
  if (saved == nullptr || saved->type() != Type::list || states == nullptr) return nb::none();
  for (const auto& group : saved->items()) {
    const auto* params = group.type() == Type::dict ? group.find("params") : nullptr;
    if (params == nullptr || params->type() != Type::list) return nb::none();
    nb::list numbers;
    for (const auto& number : params->items()) {
      if (number.type() != Type::integer) return nb::none();
      numbers.append(nb::int_(number.as_integer()));
    }
    groups.append(numbers);
  }
  for (const auto& [number, child] : states_by_number(*states)) {
    if (child->type() != Type::dict) continue;
    nb::dict own;
    for (const auto& [key, leaf] : child->pairs()) {
      if (key.type() != Type::text || leaf.type() != Type::tensor) continue;
      nb::list shape;
      for (const auto n : leaf.as_tensor().shape()) shape.append(nb::int_(n));
      own[str_of(key.as_text())] = nb::tuple(shape);
    }
    shapes[nb::int_(number)] = own;
  }
  nb::dict all;
  all["groups"] = groups;
  all["shapes"] = shapes;
  return all;
}

}  // namespace understudy::python
