// A walk that need not be made again.
//
// To walk ten thousand tensors costs more than to copy them. So the walk over a
// state leaves its steps here, one for each object it met: what kind of container
// and its size, the keys, where each tensor lies and how. The next time one pass
// over the objects compares them with the steps. Where all are the same, the plan
// of the last capture holds, and only scalars that have changed go into it, and
// tensors that have moved (Again). At the first difference the pass ends, and the state is walked.
//
// Nothing of a state is kept alive between the calls but keys, scalars and texts.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/common.h"
#include "core/path.h"
#include "core/refs.h"
#include "frameworks/frameworks.h"
#include "understudy/again.h"
#include "understudy/value.h"
#include "walk/answers.h"

namespace understudy::python {

/// Lives, and ends, under the GIL.
class LastWalk {
 public:
  LastWalk();

  /// Names the state as it was walked, or as it was last found again.
  std::uint64_t number() const { return number_; }
  /// False when something was met that only a walk can take in.
  bool can_repeat() const { return can_repeat_; }

  // Called by the Walker. `is_fixed`: in the attributes of a container, which
  // are a part of the plan.
  std::size_t begin(PyObject* o, bool is_fixed);
  void end(std::size_t step, PyObject* o, const Value& value);
  /// The step that was begun last is an object with state_dict().
  void set_has_state();
  /// The step that was begun last is a typed value; its fields follow, each with its key.
  void set_typed(const nb::object& extra);
  /// The step that was begun last is a DTensor; the tensor that it has here follows.
  void set_dtensor(nb::object spec);
  void add_key(PyObject* key);

  /// The pass. Something: the steps are those of this state now, and it must reach
  /// the stager, or this must not be asked again. Nothing: the state must be walked,
  /// by a new LastWalk; `answers` has what objects said that were asked for their states.
  /// Throws what a user's object raised.
  std::optional<Again> again(nb::handle state, Answers& answers);

 private:
  enum class Kind : std::uint8_t {
    unknown,
    scalar,  ///< may change
    fixed,   ///< may not: scalars in attributes, and texts with bytes of their own
    sequence,
    dict,
    ordered_dict,
    tensor,
    array,  ///< of NumPy
    object,
    typed,    ///< its fields are taken anew each time
    dtensor,  ///< its part of this process is the next step
  };
  // One cache line.
  struct alignas(64) Step {
    PyTypeObject* type = nullptr;
    Kind kind = Kind::unknown;
    bool needs_gradient = false;  // a parameter
    bool has_attributes = false;  // an OrderedDict
    union {
      Py_ssize_t size = 0;    // of a container
      std::ptrdiff_t offset;  // of a tensor in its storage, in bytes
      std::size_t index;      // of a scalar, an array, an object, a typed value, a DTensor: into
                              // scalars_, arrays_, types_, typed_, specs_
    };
    std::uint64_t form = 0;  // of a tensor, as Peek has it, over a storage of that size
    const void* storage = nullptr;
    const std::byte* data = nullptr;  // of the storage, or of an array
    // To think ahead; may be gone.
    PyObject* object = nullptr;
    const void* tensor = nullptr;
  };
  struct Array {
    std::string format;
    Py_ssize_t item_nbytes = 0;
    std::vector<Py_ssize_t> shape, strides;
    bool is(const Py_buffer& view) const;
  };
  struct Pass;

  void give_up();
  void end_scalar(Step& step, PyObject* o, bool is_fixed);
  bool end_tensor(Step& step, PyObject* o, const Value& value);
  bool end_array(Step& step, PyObject* o, const Value& value);

  bool is_same(PyObject* o, const Path& path);
  bool is_same_scalar(const Step& step, PyObject* o);
  bool is_same_sequence(const Step& step, PyObject* o, const Path& path);
  bool is_same_dict(const Step& step, PyObject* o, const Path& path);
  bool is_same_ordered_dict(const Step& step, PyObject* o, const Path& path);
  bool is_same_key(PyObject* key);
  bool is_same_tensor(const Step& step, PyObject* o);
  bool is_same_array(const Step& step, PyObject* o);
  void note_place(const Step& step, const void* storage, const std::byte* data);
  bool are_still_there() const;
  bool is_same_object(const Step& step, PyObject* o, const Path& path);
  bool is_same_typed(const Step& step, PyObject* o, const Path& path);
  bool is_same_dtensor(const Step& step, PyObject* o, const Path& path);
  bool could_be_blob(const Value& list) const;
  void fetch_later() const;

  const Torch* torch_;
  const std::optional<Peek> peek_;
  std::uint64_t number_;
  bool can_repeat_ = true;
  std::vector<Step> steps_;
  std::vector<nb::object> keys_;
  std::vector<nb::object> scalars_;  // of both kinds
  std::vector<Array> arrays_;
  std::vector<nb::object> types_;  // of objects with a state: weak references
  struct Typed {
    nb::object type;   // a weak reference
    nb::object extra;  // as in TypedParts
    std::size_t fields = 0;
  };
  std::vector<Typed> typed_;
  std::vector<nb::object> specs_;  // of DTensors: how each is cut
  std::size_t tensors_ = 0;

  Pass* pass_ = nullptr;
};

}  // namespace understudy::python
