// A walk that need not be made again.
//
// To walk ten thousand tensors costs more than to copy them. So the walk over a
// state leaves its steps here, one for each object it met: what kind of container
// and its size, the keys, where each tensor lies and how. The next time one pass
// over the objects compares them with the steps. Where all are the same, the plan
// of the last capture holds, and only scalars that have changed go into it, and
// tensors that have moved (Again). At the first difference the pass ends, and the state is walked.
//
// Nothing of a state is kept alive between the calls but keys and scalars.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common.h"
#include "frameworks.h"
#include "path.h"
#include "refs.h"
#include "understudy/again.h"
#include "understudy/value.h"

namespace understudy::python {

/// What state_dict() gave, in the order of the calls.
using States = std::vector<std::pair<nb::object, nb::object>>;

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
  void add_key(PyObject* key);

  /// The pass. Nothing: the state must be walked, by a new LastWalk; `states` then
  /// holds what must not be asked for again. Throws what a user's object raised.
  std::optional<Again> again(nb::handle state, States& states);

 private:
  enum class Kind : std::uint8_t {
    unknown,
    scalar,  ///< may change
    fixed,   ///< a scalar that may not
    sequence,
    dict,
    ordered_dict,
    tensor,
    array,  ///< of NumPy
    object,
  };
  // One cache line.
  struct alignas(64) Step {
    PyTypeObject* type = nullptr;
    Kind kind = Kind::unknown;
    bool is_flagged = false;  // needs a gradient; has attributes
    std::int64_t size = 0;    // of containers; of tensors their offset; of others an index
    std::uint64_t form = 0;   // of tensors, as Peek has it
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
  void move(const Step& step, const void* storage, const std::byte* data);
  bool is_same_object(const Step& step, PyObject* o, const Path& path);
  void fetch_later() const;

  const Torch* torch_;
  const std::optional<Peek> peek_;
  std::uint64_t number_;
  bool can_repeat_ = true;
  std::vector<Step> steps_;
  std::vector<nb::object> keys_;
  std::vector<nb::object> scalars_;  // of both kinds
  std::vector<Array> arrays_;
  std::vector<nb::object> types_;  // of objects, so that an address stays one type's
  std::size_t tensors_ = 0;

  Pass* pass_ = nullptr;
};

}  // namespace understudy::python
