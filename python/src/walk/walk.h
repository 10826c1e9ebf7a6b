// The walk over Python objects: a state dict becomes a Value.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/common.h"
#include "core/path.h"
#include "core/refs.h"
#include "frameworks/frameworks.h"
#include "frameworks/storage_bytes.h"
#include "understudy/value.h"
#include "walk/answers.h"
#include "walk/last_walk.h"
#include "walk/target_memory.h"
#include "walk/typed.h"

namespace understudy::python {

/// What becomes of leaves that Understudy does not look into, and of objects
/// with `load_state_dict`.
enum class Purpose {
  memory,  ///< opaque leaves are deep-copied; objects give their state_dict()
  disk,    ///< opaque leaves are refused by path, or pickled
  target,  ///< of a resume: objects become Loadables; nothing is copied
};

struct WalkOptions {
  Purpose purpose = Purpose::disk;
  bool allow_pickle = false;
  /// A tensor of which this process has a part may be a chunk.
  bool takes_chunks = false;
  /// Makes the leaf of an object with `load_state_dict`, which stands at that place, beside tensors
  /// in that memory. A walk for a target has it (build/loadable.h).
  Opaque (*loadable)(nb::handle object, std::string place,
                     std::shared_ptr<const TargetMemory> beside) = nullptr;
  /// The same for a typed value that is restored in place; `own` is its present value.
  Opaque (*in_place)(nb::handle object, std::string place, const Value& own) = nullptr;
};

/// True for an object (no class) that has both state_dict() and load_state_dict().
bool has_state(nb::handle object);

/// Where a restored tensor must be copied once more: `target` is a lazy view
/// (conjugate, negative) or has strides that are no multiple of the element.
struct WriteBack {
  nb::object target;
  nb::object temporary;
};

/// A sequence of integers, a torch.Size for example.
Dims dims_of(nb::handle sequence);

/// Calls state_dict(). A note tells of the object when that raises.
nb::object ask_for_state(PyObject* o, const Path& path);

class Walker {
 public:
  explicit Walker(WalkOptions options);

  /// Has the walk leave its steps there.
  void remember(LastWalk& record) { record_ = &record; }
  /// Objects that have been asked for their states by this call are not asked again.
  void take_answers(Answers answers) { answers_ = std::move(answers); }

  /// Throws Error with the path, or what a user's object raised. Needs the GIL. All bytes of
  /// the tensors are there when it returns.
  Value walk(nb::handle state);

  /// After a walk for a target.
  std::vector<WriteBack> take_write_backs() { return std::move(write_backs_); }
  /// Torch tensors met in a walk for a target.
  const std::vector<PyObject*>& torch_tensors() const { return torch_tensors_; }
  /// The classes of the caller's that were met in typed values: a dict of (module, name) to the
  /// class. Not valid where there was none.
  nb::object classes() const { return classes_; }

 private:
  Value node(PyObject* o, const Path& path);
  Value any_node(PyObject* o, const Path& path);
  Value slow_node(PyObject* o, const Path& path);
  Value object_node(PyObject* o, const Path& path);
  Value state_of_object(PyObject* o, const Path& path);
  Value plain_node(PyObject* o, const Path& path);
  void require_all_there(const Value& state) const;
  [[noreturn]] void refuse_plain(PyObject* o, const Path& path) const;

  // Containers (walk.cpp).
  Value list(PyObject* o, const Path& path);
  Value tuple(PyObject* o, const Path& path);
  Value iterable(PyObject* o, const Path& path);
  Value members(PyObject* o, const Path& path);
  Value dict(PyObject* o, const Path& path);
  Value ordered_pairs(PyObject* o, const Path& path);
  Value key(PyObject* o, const Path& path);
  Value plain(PyObject* o, const Path& path);
  Path below(PyObject* container, const Path& path) const;

  // The closed list of kinds (walk_kinds.cpp).
  Value big_integer(PyObject* o);
  Value text(PyObject* o);
  Value ordered_dict(PyObject* o, const Path& path);
  Value default_dict(PyObject* o, const Path& path);
  Value deque(PyObject* o, const Path& path);
  Value fields(PyObject* o, const char* const* names, std::size_t count, const Path& path);
  Value range(PyObject* o, const Path& path);
  Value named_tuple(PyObject* o, const Path& path);
  Value path_object(PyObject* o, const Path& path);
  Value numpy_scalar(PyObject* o, const Path& path);
  Value numpy_dtype(PyObject* o, const Path& path);
  Value opaque(PyObject* o, const Path& path);

  // Typed values (walk_typed.cpp).
  std::optional<Value> typed(PyObject* o, const Path& path);
  bool takes_class(const TypedParts& parts);
  Value typed_fields(PyObject* o, const TypedParts& parts, const Path& path);
  Value typed_or_opaque(PyObject* o, const Path& path);

  // Tensors (walk_torch.cpp, walk_dtensor.cpp, walk_arrays.cpp).
  Value torch_tensor(PyObject* o, const Path& path);
  Value torch_parameter(PyObject* o, const Path& path);
  Value torch_subclass(PyObject* o, const Path& path);
  Value torch_by_attributes(PyObject* o, const Path& path);
  Value dtensor(PyObject* o, const Path& path);
  Value torch_view(PyObject* o, DType dtype, void* data, Dims shape, Dims strides,
                   const Path& path);
  Value torch_resolved(PyObject* o, const Path& path);
  bool is_lazy(PyObject* o, DType dtype) const;
  Value torch_other(PyObject* o, const Path& path);
  Value numpy_array(PyObject* o, const Path& path);
  Value dense_part(PyObject* memory);
  Value dlpack_tensor(PyObject* o, const Path& path);
  Value tensor_leaf(Tensor tensor);

  WalkOptions options_;
  const Torch* torch_;
  const Numpy* numpy_;
  const nb::handle dtensor_;       // the type; null where nobody has imported it
  std::shared_ptr<Refs> sources_;  // what tensors of the state lie over
  std::shared_ptr<Refs> copies_;   // deep copies, which outlive the walk
  nb::object deepcopy_;
  nb::object memo_;        // so that copies share as their originals do
  bool is_plain_ = false;  // in attributes and keys: no tensors, no objects
  bool is_in_set_ = false;
  bool has_dense_parts_ = false;  // in the fields of a typed value
  nb::object classes_;
  std::vector<WriteBack> write_backs_;
  std::vector<PyObject*> torch_tensors_;
  std::shared_ptr<TargetMemory> targets_ = std::make_shared<TargetMemory>();
  // A storage under a tensor, as it was met; which tensor, in the order of the walk.
  struct Met {
    PyObject* storage;
    StorageBytes bytes;
    std::size_t tensor;
  };
  std::vector<Met> met_;
  std::size_t doubtful_ = 0;  // of those: the first, met before an object ran code of its own
  std::size_t tensors_ = 0;
  Answers answers_;
  LastWalk* record_ = nullptr;
};

}  // namespace understudy::python
