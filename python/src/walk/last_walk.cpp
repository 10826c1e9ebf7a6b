#include "walk/last_walk.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "frameworks/types.h"
#include "walk/last_walk_pass.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

// Longer text is not kept alive: states that hold it are walked.
constexpr Py_ssize_t kMaxKeptNbytes = Py_ssize_t{1} << 20;
// Tensors to think ahead: about as far as memory is away.
constexpr std::size_t kAhead = 6;

std::uint64_t new_number() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// Immutable, and the same state when they are equal.
bool is_kept_by_value(Rule rule) {
  return is_scalar_rule(rule) || rule == Rule::torch_dtype || rule == Rule::torch_device;
}

// For what is kept by value, and keys. False is no harm: then they are looked at.
bool are_equal(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyUnicode_CheckExact(a) || PyLong_CheckExact(a) || PyBytes_CheckExact(a)) {
    const int answer = PyObject_RichCompareBool(a, b, Py_EQ);
    throw_if(answer < 0);
    return answer == 1;
  }
  if (!PyFloat_CheckExact(a)) return false;
  const double x = PyFloat_AsDouble(a), y = PyFloat_AsDouble(b);
  return std::memcmp(&x, &y, sizeof x) == 0;
}

bool is_too_long(PyObject* o) {
  return (PyUnicode_CheckExact(o) && PyUnicode_GetLength(o) > kMaxKeptNbytes) ||
         (PyBytes_CheckExact(o) && PyBytes_Size(o) > kMaxKeptNbytes);
}

}  // namespace

LastWalk::LastWalk()
    : torch_(torch_if_loaded()),
      peek_(torch_ == nullptr ? std::nullopt : torch_->peek),
      number_(new_number()) {}

void LastWalk::give_up() {
  can_repeat_ = false;
  steps_ = {};
  keys_ = {};
  scalars_ = {};
  arrays_ = {};
  types_ = {};
  typed_ = {};
  specs_ = {};
}

std::size_t LastWalk::begin(PyObject* o, bool is_fixed) {
  if (!can_repeat_) return 0;
  Step step;
  step.type = Py_TYPE(o);
  step.kind = is_fixed ? Kind::fixed : Kind::unknown;
  steps_.push_back(step);
  return steps_.size() - 1;
}

void LastWalk::set_has_state() {
  if (!can_repeat_) return;
  auto& step = steps_.back();
  step.kind = Kind::object;
  step.index = types_.size();
  auto* const type = reinterpret_cast<PyObject*>(step.type);
  types_.push_back(steal_or_throw(PyWeakref_NewRef(type, nullptr)));
}

void LastWalk::add_key(PyObject* key) {
  if (!can_repeat_) return;
  const auto rule = rule_of(Py_TYPE(key));
  if (!is_kept_by_value(rule) || is_too_long(key)) return give_up();
  keys_.push_back(nb::borrow(key));
}

void LastWalk::end(std::size_t at, PyObject* o, const Value& value) {
  if (!can_repeat_) return;
  auto& step = steps_[at];
  if (step.kind == Kind::object || step.kind == Kind::dtensor) return;
  if (step.kind == Kind::typed) {
    typed_[step.index].fields = value.pairs().size();
    return;
  }
  const bool is_fixed = step.kind == Kind::fixed;
  bool is_taken = true;
  switch (rule_of(step.type)) {
    case Rule::list:
      step.kind = Kind::sequence;
      step.size = PyList_Size(o);
      is_taken = !could_be_blob(value);
      break;
    case Rule::tuple:
    case Rule::torch_size:
      step.kind = Kind::sequence;
      step.size = PyTuple_Size(o);
      break;
    case Rule::dict:
      step.kind = Kind::dict;
      step.size = PyDict_Size(o);
      break;
    case Rule::ordered_dict:
      step.kind = Kind::ordered_dict;
      step.size = PyDict_Size(o);
      step.has_attributes = value.extra().type() == Value::Type::dict;
      break;
    case Rule::torch_tensor:
    case Rule::torch_parameter: is_taken = end_tensor(step, o, value); break;
    case Rule::numpy_array: is_taken = end_array(step, o, value); break;
    default:
      if (PyMemoryView_Check(o)) {  // a dense part of a typed value
        is_taken = end_array(step, o, value);
        break;
      }
      if (is_scalar(value)) return end_scalar(step, o, is_fixed);
      is_taken = is_kept_by_value(rule_of(step.type));  // a long text
      if (is_taken) return end_scalar(step, o, true);
  }
  if (!is_taken) give_up();
}

void LastWalk::end_scalar(Step& step, PyObject* o, bool is_fixed) {
  const bool is_kept = is_kept_by_value(rule_of(step.type));
  if (is_too_long(o) || (is_fixed && !is_kept)) return give_up();
  step.kind = is_fixed ? Kind::fixed : Kind::scalar;
  step.index = scalars_.size();
  scalars_.push_back(is_kept ? nb::borrow(o) : nb::object());
}

// Whether other scalars would make the list one that is kept in bytes of its own.
bool LastWalk::could_be_blob(const Value& list) const {
  if (!std::ranges::all_of(list.items(), is_scalar)) return false;
  return is_blob(Value::list(Value::Items(list.items().size(), Value(0))));
}

// One whose values are its bytes, where it lies.
bool LastWalk::end_tensor(Step& step, PyObject* o, const Value& value) {
  if (!peek_ || value.type() != Value::Type::tensor) return false;
  step.kind = Kind::tensor;
  step.object = o;
  step.tensor = peek_->tensor_of(o);
  step.storage = peek_->storage_of(o);
  step.form = peek_->form_over(o, step.storage);
  if (step.form == 0 || peek_->has_lazy_bit(o)) return false;
  step.data = peek_->data(step.storage);
  const auto offset = static_cast<const std::byte*>(value.as_tensor().data()) - step.data;
  const auto nbytes = static_cast<std::ptrdiff_t>(peek_->nbytes(step.storage));
  if (value.as_tensor().nbytes() > 0 && (offset < 0 || offset >= nbytes)) return false;
  step.offset = offset;
  const bool is_parameter = value.kind() == Value::Kind::parameter;
  step.needs_gradient = is_parameter && value.extra().as_boolean();
  ++tensors_;
  return true;
}

std::optional<Again> LastWalk::again(nb::handle state, Answers& answers) {
  if (!can_repeat_) return {};
  Pass pass;
  pass.answers = &answers;
  pass.owners->reserve(tensors_);
  pass_ = &pass;
  const bool is_found =
      is_same(state.ptr(), Path{}) && pass.step == steps_.size() && are_still_there();
  pass_ = nullptr;
  if (!is_found) return {};
  for (auto& [index, object] : pass.kept) scalars_[index] = std::move(object);
  Again again{number_, new_number(), std::move(pass.changed), {}, std::move(pass.owners)};
  number_ = again.is;
  for (const auto& place : pass.moved) {
    auto& step = steps_[place.step];
    step.storage = place.storage;
    step.data = place.data;
    const auto offset = step.kind == Kind::tensor ? step.offset : 0;
    again.moves.emplace_back(place.tensor, const_cast<std::byte*>(step.data) + offset);
  }
  return again;
}

bool LastWalk::is_same(PyObject* o, const Path& path) {
  if (pass_->step == steps_.size()) return false;
  const auto& step = steps_[pass_->step++];
  if (step.kind == Kind::scalar) return is_same_scalar(step, o);
  if (Py_TYPE(o) != step.type) return false;
  switch (step.kind) {
    case Kind::fixed: return are_equal(scalars_[step.index].ptr(), o);
    case Kind::sequence: return is_same_sequence(step, o, path);
    case Kind::dict: return is_same_dict(step, o, path);
    case Kind::ordered_dict: return is_same_ordered_dict(step, o, path);
    case Kind::tensor: return is_same_tensor(step, o);
    case Kind::array: return is_same_array(step, o);
    case Kind::object: return is_same_object(step, o, path);
    case Kind::typed: return is_same_typed(step, o, path);
    case Kind::dtensor: return is_same_dtensor(step, o, path);
    case Kind::scalar:
    case Kind::unknown: break;
  }
  return false;
}

bool LastWalk::is_same_scalar(const Step& step, PyObject* o) {
  const auto place = pass_->scalar++;
  const auto& before = scalars_[step.index];
  if (before.is_valid() && are_equal(before.ptr(), o)) return true;
  const bool is_kept = is_kept_by_value(rule_of(Py_TYPE(o)));
  if (is_kept ? !before.is_valid() || is_too_long(o) : Py_TYPE(o) != step.type) return false;
  Value value;
  try {
    value = Walker({.purpose = Purpose::disk}).walk(o);
  } catch (const Error&) {
    return false;  // the walk will say where it is
  }
  if (!is_scalar(value)) return false;
  pass_->changed.emplace_back(place, std::move(value));
  if (is_kept) pass_->kept.emplace_back(step.index, nb::borrow(o));
  return true;
}

bool LastWalk::is_same_sequence(const Step& step, PyObject* o, const Path& path) {
  const bool is_list = PyList_Check(o) != 0;
  for (Py_ssize_t i = 0; i < step.size; ++i) {
    // A user's state_dict() may have changed it since.
    if ((is_list ? PyList_Size(o) : PyTuple_Size(o)) != step.size) return false;
    const auto item = nb::borrow(is_list ? PyList_GetItem(o, i) : PyTuple_GetItem(o, i));
    if (!is_same(item.ptr(), {&path, nullptr, i, nullptr, path.depth + 1})) return false;
  }
  return (is_list ? PyList_Size(o) : PyTuple_Size(o)) == step.size;
}

bool LastWalk::is_same_dict(const Step& step, PyObject* o, const Path& path) {
  PyObject *key = nullptr, *child = nullptr;
  Py_ssize_t position = 0;
  if (PyDict_Size(o) != step.size) return false;
  while (PyDict_Next(o, &position, &key, &child) != 0) {
    const auto held_key = nb::borrow(key), held_child = nb::borrow(child);
    if (!is_same_key(key)) return false;
    if (!is_same(child, {&path, key, -1, nullptr, path.depth + 1})) return false;
    if (PyDict_Size(o) != step.size) return false;
  }
  return true;
}

// Its own order, which its table has, too, as a rule.
bool LastWalk::is_same_ordered_dict(const Step& step, PyObject* o, const Path& path) {
  if (PyDict_Size(o) != step.size) return false;
  PyObject *table_key = nullptr, *child = nullptr;
  Py_ssize_t position = 0;
  for (const nb::handle key : nb::handle(o)) {
    if (PyDict_Size(o) != step.size) return false;
    const bool is_next = PyDict_Next(o, &position, &table_key, &child) != 0;
    if (!is_next || table_key != key.ptr()) child = PyDict_GetItemWithError(o, key.ptr());
    throw_if(child == nullptr && PyErr_Occurred() != nullptr);
    if (child == nullptr) return false;
    const auto held_child = nb::borrow(child);
    if (!is_same_key(key.ptr())) return false;
    if (!is_same(child, {&path, key.ptr(), -1, nullptr, path.depth + 1})) return false;
  }
  static auto* const name = interned("__dict__");
  const auto attributes = nb::steal(PyObject_GetAttr(o, name));
  if (!attributes.is_valid()) {
    PyErr_Clear();
    return !step.has_attributes;
  }
  const bool has_attributes =
      PyDict_CheckExact(attributes.ptr()) && PyDict_Size(attributes.ptr()) > 0;
  if (has_attributes != step.has_attributes) return false;
  return !has_attributes || is_same(attributes.ptr(), path);
}

bool LastWalk::is_same_key(PyObject* key) {
  return pass_->key < keys_.size() && are_equal(keys_[pass_->key++].ptr(), key);
}

// The same view of a storage. It need not be the same object.
bool LastWalk::is_same_tensor(const Step& step, PyObject* o) {
  fetch_later();
  const auto* storage = peek_->storage_of(o);
  if (peek_->form_over(o, storage) != step.form) return false;
  const auto* data = peek_->data(storage);
  if ((data == nullptr) != (step.data == nullptr)) return false;  // freed since
  note_place(step, storage, data);
  if (torch_->parameter.is(nb::handle(reinterpret_cast<PyObject*>(step.type)))) {
    static auto* const name = interned("requires_grad");
    if (get_attribute(o, name).is(nb::handle(Py_True)) != step.needs_gradient) return false;
  }
  if (!types_.empty()) pass_->met.push_back({storage, data, peek_->nbytes(storage)});
  // The storage and not the tensor, which may be given another.
  auto* const object = peek_->object_of(storage);
  pass_->owners->add(object != nullptr ? nb::borrow(object)
                                       : call_method(torch_->untyped_storage, o));
  return true;
}

// Of the step that was taken last.
void LastWalk::note_place(const Step& step, const void* storage, const std::byte* data) {
  const auto tensor = pass_->tensor++;
  if (storage == step.storage && data == step.data) return;
  pass_->moved.push_back({pass_->step - 1, tensor, storage, data});
}

bool LastWalk::is_same_object(const Step& step, PyObject* o, const Path& path) {
  // Its type may have ended, and another have its address.
  const auto type = steal_or_throw(PyObject_CallNoArgs(types_[step.index].ptr()));
  if (type.ptr() != reinterpret_cast<PyObject*>(Py_TYPE(o)) || !has_state(o)) return false;
  const auto state = ask_for_state(o, path);
  pass_->answers->add(nb::borrow(o), state);
  pass_->doubtful = pass_->met.size();
  return is_same(state.ptr(), {&path, nullptr, -1, nullptr, path.depth + 1});
}

bool LastWalk::are_still_there() const {
  return std::all_of(
      pass_->met.begin(), pass_->met.begin() + static_cast<std::ptrdiff_t>(pass_->doubtful),
      [&](const Pass::Met& met) {
        return peek_->data(met.storage) == met.data && peek_->nbytes(met.storage) == met.nbytes;
      });
}

void LastWalk::fetch_later() const {
  if (pass_->step + kAhead >= steps_.size()) return;
  const auto& later = steps_[pass_->step + kAhead];
  if (later.kind != Kind::tensor) return;
  Peek::fetch(later.object, later.tensor, later.storage);
}

}  // namespace understudy::python
