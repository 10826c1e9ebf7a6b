// A Value becomes Python objects.
#pragma once

#include <unordered_map>

#include "core/common.h"
#include "frameworks/frameworks.h"
#include "understudy/value.h"

namespace understudy::python {

struct BuildOptions {
  /// The core has refused pickles already unless the caller allowed them.
  bool allow_pickle = false;
};

/// One Builder for one state, so that tensors which share bytes share a torch
/// storage, and opaque copies share as their originals do. Needs the GIL.
class Builder {
 public:
  explicit Builder(BuildOptions options) : options_(options) {}

  /// Throws Error(corrupt) for a tree that makes no Python object, for example
  /// a list as a dict key.
  nb::object build(const Value& value);

 private:
  nb::object node(const Value& value);
  nb::object list(const Value& value);
  nb::object tuple(const Value& value);
  nb::object dict(const Value& value);
  nb::object items(const Value& value);
  nb::object kind_of_list(const Value& value);
  nb::object kind_of_tuple(const Value& value);
  nb::object kind_of_dict(const Value& value);
  nb::object text(const Value& value);
  nb::object bytes(const Value& value);
  nb::object opaque(const Opaque& leaf);

  // Tensors (build_tensors.cpp).
  nb::object tensor(const Value& value);
  nb::object torch_tensor(const Torch& torch, const Tensor& tensor);
  Tensor dense_copy(const Tensor& tensor);
  nb::object numpy_array(const Tensor& tensor);

  BuildOptions options_;
  std::unordered_map<const Storage*, nb::object> torch_storages_;
  std::unordered_map<const Storage*, nb::object> numpy_storages_;
  std::unordered_map<std::string, nb::object> named_tuples_;
  nb::object memo_;
  bool is_in_pickle_ = false;                                        // somebody else's code runs
  std::unordered_map<const Storage*, std::uint64_t> copied_nbytes_;  // densely, of each storage
};

}  // namespace understudy::python
