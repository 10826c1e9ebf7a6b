// A Value becomes Python objects.
#pragma once

#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/common.h"
#include "frameworks/frameworks.h"
#include "understudy/value.h"

namespace understudy::python {

/// What becomes of a typed value that has a class of the user's. No file has one imported.
enum class OfClasses {
  trees,   ///< a plain dict that says what it was, unless BuildOptions::classes has the class
  met,     ///< an object of the class of that name that this process has met in states
  needed,  ///< an error, unless BuildOptions::classes has the class
};

struct BuildOptions {
  /// The core has refused pickles already unless the caller allowed them.
  bool allow_pickle = false;
  OfClasses of_classes = OfClasses::trees;
  nb::object classes{};  ///< as Walker::classes gives them
};

/// Whether there is a typed value in it that has a class of the user's.
bool has_class(const Value& value);

/// One Builder for one state, so that tensors which share bytes share a torch
/// storage, and opaque copies share as their originals do. Needs the GIL.
class Builder {
 public:
  explicit Builder(BuildOptions options) : options_(std::move(options)) {}

  /// Throws Error for a tree that makes no Python object (a list as a dict key), or
  /// none here (a dtype that this torch lacks), with the place in the tree. What unpickling
  /// raises passes through.
  nb::object build(const Value& value);

  /// Runs `make`, which builds parts; what Python raises meanwhile becomes such an Error.
  template <class Make>
  nb::object guard(const Make& make) {
    if (is_guarded_) return make();
    is_guarded_ = true;
    try {
      auto made = make();
      is_guarded_ = false;
      return made;
    } catch (...) {
      is_guarded_ = false;
      rethrow(std::current_exception());
    }
  }

  /// Runs `make`, which builds what stands under that key, or at that index.
  template <class Make>
  nb::object at(const Value& key, const Make& make) {
    try {
      return make();
    } catch (...) {
      trail_.push_back(key);
      throw;
    }
  }

 private:
  [[noreturn]] void rethrow(std::exception_ptr failure);
  std::string place();
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
  nb::object typed(const Value& value);  // build_typed.cpp
  nb::object object_of(nb::handle type, nb::handle kind, nb::handle fields);
  nb::object class_of(const Value& value);

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
  std::unordered_map<const Storage*, std::uint64_t> copied_nbytes_;  // densely, of each storage
  bool makes_bytes_ = false;  // of tensors, which are parts of a value of the standard library
  bool is_guarded_ = false;
  bool has_user_code_failed_ = false;
  std::vector<Value> trail_;  // keys above what failed, the innermost first
};

}  // namespace understudy::python
