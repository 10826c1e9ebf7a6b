#include "frameworks/types.h"

#include <unordered_map>

#include "frameworks/frameworks.h"

namespace understudy::python {
namespace {

using Table = std::unordered_map<PyTypeObject*, Rule>;

void add(Table& table, nb::handle type, Rule rule) {
  type.inc_ref();  // for ever: an address must not come to mean another type
  table.emplace(reinterpret_cast<PyTypeObject*>(type.ptr()), rule);
}

Table* make_table() {
  auto table = std::make_unique<Table>();
  const std::pair<PyTypeObject*, Rule> builtins[] = {
      {Py_TYPE(Py_None), Rule::none},
      {&PyBool_Type, Rule::boolean},
      {&PyLong_Type, Rule::integer},
      {&PyFloat_Type, Rule::floating},
      {&PyComplex_Type, Rule::complex},
      {&PyUnicode_Type, Rule::text},
      {&PyBytes_Type, Rule::bytes},
      {&PyByteArray_Type, Rule::byte_array},
      {&PyList_Type, Rule::list},
      {&PyTuple_Type, Rule::tuple},
      {&PyDict_Type, Rule::dict},
      {&PySet_Type, Rule::set},
      {&PyFrozenSet_Type, Rule::frozen_set},
      {&PySlice_Type, Rule::slice},
      {&PyRange_Type, Rule::range},
      {Py_TYPE(Py_Ellipsis), Rule::ellipsis},
  };
  for (const auto& [type, rule] : builtins) table->emplace(type, rule);
  add(*table, standard_type("collections", "OrderedDict"), Rule::ordered_dict);
  add(*table, standard_type("collections", "defaultdict"), Rule::default_dict);
  add(*table, standard_type("collections", "Counter"), Rule::counter);
  add(*table, standard_type("collections", "deque"), Rule::deque);
  add(*table, standard_type("types", "SimpleNamespace"), Rule::simple_namespace);
  for (const char* name : {"PosixPath", "PurePosixPath", "PureWindowsPath"}) {
    add(*table, standard_type("pathlib", name), Rule::path);
  }
  return table.release();
}

struct Factory {
  const char* module;
  const char* name;
};
constexpr Factory kFactories[] = {
    {"builtins", "int"},        {"builtins", "float"},     {"builtins", "complex"},
    {"builtins", "bool"},       {"builtins", "str"},       {"builtins", "bytes"},
    {"builtins", "list"},       {"builtins", "tuple"},     {"builtins", "dict"},
    {"builtins", "set"},        {"builtins", "frozenset"}, {"collections", "OrderedDict"},
    {"collections", "Counter"}, {"collections", "deque"},
};

Table& table() {
  static Table* made = make_table();
  return *made;
}

}  // namespace

Rule rule_of(PyTypeObject* type) {
  const auto& known = table();
  const auto found = known.find(type);
  return found == known.end() ? Rule::unknown : found->second;
}

void refresh_types() {
  static bool has_torch = false, has_numpy = false, has_argparse = false;
  if (!has_torch) {
    if (const auto* torch = torch_if_loaded()) {
      add(table(), torch->tensor, Rule::torch_tensor);
      add(table(), torch->parameter, Rule::torch_parameter);
      add(table(), torch->size, Rule::torch_size);
      add(table(), torch->dtype, Rule::torch_dtype);
      add(table(), torch->device, Rule::torch_device);
      has_torch = true;
    }
  }
  if (!has_numpy) {
    if (const auto* numpy = numpy_if_loaded()) {
      add(table(), numpy->ndarray, Rule::numpy_array);
      has_numpy = true;
    }
  }
  if (!has_argparse) {
    const auto name = nb::str("argparse");
    const auto module = nb::steal(PyImport_GetModule(name.ptr()));
    if (module.is_valid() && nb::hasattr(module, "Namespace")) {
      add(table(), module.attr("Namespace"), Rule::argparse_namespace);
      has_argparse = true;
    }
    PyErr_Clear();
  }
}

nb::object standard_type(const char* module, const char* name) {
  return nb::module_::import_(module).attr(name);
}

const char* factory_name(nb::handle factory) {
  if (!PyType_Check(factory.ptr())) return nullptr;
  for (const auto& [module, name] : kFactories) {
    if (factory.is(standard_type(module, name))) return name;
  }
  return nullptr;
}

nb::object factory_of(std::string_view name) {
  for (const auto& known : kFactories) {
    if (name == known.name) return standard_type(known.module, known.name);
  }
  return {};
}

}  // namespace understudy::python
