// After a resume: restored plain data goes into the caller's own containers.
#pragma once

#include <string>
#include <vector>

#include "build/build.h"
#include "core/common.h"
#include "understudy/value.h"
#include "walk/walk.h"

namespace understudy::python {

/// Equal, so that the caller's object may stay. Not sure is no.
bool is_same(const Value& a, const Value& b);

/// What is to be done to the caller's containers. Tensors and objects stay: their
/// contents have been restored. A tuple that changed is replaced in its parent.
class Assignment {
 public:
  /// `before` is what the walk made of `state`, `after` what the resume will make of
  /// that; `classes` are those that the walk met (Walker::classes). Builds all that is new, and
  /// changes nothing. Throws Error for what cannot be built.
  Assignment(nb::handle state, const Value& before, const Value& after, nb::object classes = {});

  void apply();

 private:
  enum class How { set_item, set_attribute, refill_list, refill_set, refill_dict };
  struct Change {
    How how;
    nb::object container;
    nb::object key;    // of set_item; the name of set_attribute
    nb::object value;  // for refill_dict a list of pairs
  };

  nb::object merge(nb::handle object, const Value& before, const Value& after);
  nb::object merge_dict(nb::handle object, const Value& before, const Value& after);
  void refill_dict(const nb::object& container, const Value& before, const Value& after);
  nb::object merge_list(nb::handle object, const Value& before, const Value& after);
  nb::object merge_tuple(nb::handle object, const Value& before, const Value& after);
  nb::object merge_typed(nb::handle object, const Value& before, const Value& after);
  nb::object merge_fields(nb::handle object, const Value& before, const Value& after);
  void set_item(const nb::object& container, const nb::object& key, const nb::object& child,
                const nb::object& merged);

  Builder builder_;
  std::vector<Change> changes_;
};

/// Tells in the exception that the caller's state is no longer whole.
void tell_overwritten(nb::python_error& error);

/// Runs a step that changes the caller's state; what it raises says so.
template <class Step>
void saying_overwritten(const Step& step) {
  try {
    step();
  } catch (nb::python_error& error) {
    tell_overwritten(error);
    throw;
  }
}

/// Copies what could not be restored in place into lazy views and the like,
/// and tells autograd that tensors have changed.
void finish_tensors(const std::vector<WriteBack>& write_backs,
                    const std::vector<PyObject*>& torch_tensors);

}  // namespace understudy::python
