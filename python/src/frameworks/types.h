// Which exact Python types are known, and by which rule each is walked.
#pragma once

#include "core/common.h"

namespace understudy::python {

enum class Rule {
  unknown,
  none,  // the first scalar
  boolean,
  integer,
  floating,
  complex,
  text,
  bytes,  // the last scalar
  byte_array,
  list,
  tuple,
  dict,
  ordered_dict,
  default_dict,
  counter,
  deque,
  set,
  frozen_set,
  simple_namespace,
  argparse_namespace,
  slice,
  range,
  ellipsis,
  path,
  torch_tensor,
  torch_parameter,
  torch_size,
  torch_dtype,
  torch_device,
  numpy_array,
};

/// The rule for objects of exactly this type.
Rule rule_of(PyTypeObject* type);

/// None, numbers, text and bytes: immutable, and without anything below them.
constexpr bool is_scalar_rule(Rule rule) noexcept {
  return Rule::none <= rule && rule <= Rule::bytes;
}

/// Takes in the types of modules that have been imported since. Before a walk.
void refresh_types();

/// collections.OrderedDict and so on, for making them.
nb::object standard_type(const char* module, const char* name);

/// Factories of a defaultdict that are kept, by name. Null for all others.
const char* factory_name(nb::handle factory);
nb::object factory_of(std::string_view name);

}  // namespace understudy::python
