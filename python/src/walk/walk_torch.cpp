// Torch tensors, through DLPack's exchange table where torch has one.
//
// The table is silent about several things, so each is asked for: the lazy
// conjugate and negative bits; null data of fakes, wrappers and storages
// resized to nothing; narrow integers, which look like int8 and uint8.
#include "core/errors.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

bool is_host(dlpack::Device device) {
  return device.type == dlpack::kCpu || device.type == dlpack::kCudaHost ||
         device.type == dlpack::kRocmHost;
}

bool has_elements(const Dims& shape) {
  for (const auto n : shape) {
    if (n == 0) return false;
  }
  return true;
}

std::string text_of_attribute(nb::handle object, const char* name) {
  const nb::object value = object.attr(name);
  return text_of(nb::str(nb::handle(value)));
}

// Says what it is that has no bytes of its own to take.
[[noreturn]] Value refuse(const Torch& torch, nb::handle tensor, const Path& path) {
  const auto type = name_of_type(tensor.type());
  std::string what;
  if (!tensor.type().attr("__torch_dispatch__").is(torch.plain_dispatch)) {
    what = "a " + type + ", a subclass that keeps its data elsewhere";
  } else if (nb::cast<bool>(tensor.attr("is_nested"))) {
    what = "a nested tensor";
  } else if (nb::cast<bool>(tensor.attr("is_quantized"))) {
    what = "a quantised tensor";
  } else if (!tensor.attr("layout").is(torch.strided)) {
    what = "a tensor of layout " + text_of_attribute(tensor, "layout");
  } else if (text_of_attribute(tensor.attr("device"), "type") != "cpu") {
    what = "a tensor on device " + text_of_attribute(tensor, "device");
  } else {
    what = "a " + type + " without memory of its own";
  }
  fail(ErrorCode::unsupported, "the tensor {} is {}; Understudy takes dense tensors in host memory",
       path.place(), what);
}

// A torch tensor gives its address whatever its storage has become.
[[noreturn]] void fail_too_small(const std::string& place, std::uint64_t needed,
                                 std::uint64_t nbytes) {
  fail(ErrorCode::invalid,
       "the tensor {} needs {} bytes, but its storage has {}: it was resized since the tensor was "
       "made",
       place, needed, nbytes);
}

// The path of the tensor that is met as number `left`, counted from 0 and downwards.
bool find_tensor(const Value& value, std::size_t& left, std::string& path) {
  if (value.type() == Value::Type::tensor) return left-- == 0;
  const auto is_below = [&](const std::string& step, const Value& child) {
    const auto length = path.size();
    path += (path.empty() ? "" : ".") + step;
    if (find_tensor(child, left, path)) return true;
    path.resize(length);
    return false;
  };
  if (value.type() == Value::Type::dict) {
    for (const auto& [key, child] : value.pairs()) {
      const bool is_text = key.type() == Value::Type::text;
      const bool is_number = key.type() == Value::Type::integer;
      const auto step = is_text     ? std::string(key.as_text())
                        : is_number ? fmt::to_string(key.as_integer())
                                    : std::string("?");
      if (is_below(step, child)) return true;
    }
  } else if (value.is_container()) {
    for (std::size_t i = 0; i < value.items().size(); ++i) {
      if (is_below(fmt::to_string(i), value.items()[i])) return true;
    }
  }
  return false;
}

}  // namespace

Dims dims_of(nb::handle sequence) {
  Dims dims;
  for (const nb::handle n : sequence) dims.push_back(nb::cast<std::int64_t>(n));
  return dims;
}

// A state_dict() that was asked later may have resized what an earlier one gave.
void Walker::require_all_there(const Value& state) const {
  for (std::size_t i = 0; i < doubtful_; ++i) {
    const auto& met = met_[i];
    if (bytes_of(*torch_, met.storage) == met.bytes) continue;
    std::string path;
    auto left = met.tensor;
    find_tensor(state, left, path);
    fail(ErrorCode::invalid,
         "the storage of the tensor at '{}' was resized while the state was walked, by code of an "
         "object that was asked for its state after it",
         path);
  }
}

// No dense tensor: one that its parts tell, or an error that says what it is.
Value Walker::torch_other(PyObject* o, const Path& path) {
  auto value = typed(o, path);
  return value ? std::move(*value) : refuse(*torch_, o, path);
}

Value Walker::tensor_leaf(Tensor tensor) {
  ++tensors_;
  return Value(std::move(tensor));
}

bool Walker::is_lazy(PyObject* o, DType dtype) const {
  const auto type = dlpack_type(dtype);
  return type && has_lazy_bit(*torch_, o, *type);
}

// The storage is held and not the tensor, whose data may be replaced.
Value Walker::torch_view(PyObject* o, DType dtype, void* data, Dims shape, Dims strides,
                         const Path& path) {
  auto* const storage = sources_->add(call_method(torch_->untyped_storage, o));
  auto tensor = Tensor::from_owner(sources_, data, dtype, std::move(shape), std::move(strides));
  const auto bytes = bytes_of(*torch_, storage);
  if (!bytes.hold(tensor)) {
    fail_too_small(path.place(), tensor.storage()->nbytes(), bytes.nbytes);
  }
  if (is_lazy(o, dtype)) return torch_resolved(o, path);
  met_.push_back({storage, bytes, tensors_});
  if (options_.purpose == Purpose::target) {
    torch_tensors_.push_back(sources_->add(nb::borrow(o)));
    targets_->add_storage(storage, bytes, path.place());
  }
  return tensor_leaf(std::move(tensor));
}

Value Walker::torch_tensor(PyObject* o, const Path& path) {
  dlpack::Tensor lent;
  if (torch_->api == nullptr || torch_->api->lend_from_object(o, &lent) != 0) {
    PyErr_Clear();  // it says less than torch_by_attributes will
    return torch_by_attributes(o, path);
  }
  auto dtype = dtype_of(lent.dtype);
  if (!is_host(lent.device) || !dtype) return torch_other(o, path);
  if (*dtype == DType::i8 || *dtype == DType::u8) {
    const auto found = torch_->dtypes.find(nb::handle(o).attr("dtype").ptr());
    if (found == torch_->dtypes.end()) return torch_other(o, path);
    dtype = found->second;
  }
  Dims shape(lent.shape, lent.shape + lent.ndim);
  if (lent.data == nullptr && has_elements(shape)) return torch_other(o, path);
  Dims strides(lent.strides, lent.strides + lent.ndim);
  auto* data = static_cast<std::byte*>(lent.data) + lent.byte_offset;
  return torch_view(o, *dtype, data, std::move(shape), std::move(strides), path);
}

// For torch without the exchange table, and for the types that DLPack lacks.
Value Walker::torch_by_attributes(PyObject* o, const Path& path) {
  const nb::handle tensor(o);
  const bool is_dense = tensor.attr("layout").is(torch_->strided) &&
                        !nb::cast<bool>(tensor.attr("is_quantized")) &&
                        !nb::cast<bool>(tensor.attr("is_nested")) &&
                        text_of_attribute(tensor.attr("device"), "type") == "cpu";
  const auto dtype = torch_->dtypes.find(tensor.attr("dtype").ptr());
  if (!is_dense || dtype == torch_->dtypes.end()) return torch_other(o, path);
  std::uintptr_t address = 0;
  try {
    address = nb::cast<std::uintptr_t>(tensor.attr("data_ptr")());
  } catch (nb::python_error& error) {
    // Fakes and functional wrappers have no address to give.
    if (!error.matches(PyExc_RuntimeError)) throw;
    return torch_other(o, path);
  }
  Dims shape = dims_of(tensor.attr("shape"));
  if (address == 0 && has_elements(shape)) return torch_other(o, path);
  return torch_view(o, dtype->second, reinterpret_cast<void*>(address), std::move(shape),
                    dims_of(tensor.attr("stride")()), path);
}

// A conjugate or negative view: its values are computed, so it shares nothing.
Value Walker::torch_resolved(PyObject* o, const Path& path) {
  const nb::object detached = nb::handle(o).attr("detach")();
  const nb::object resolved = detached.attr("resolve_conj")().attr("resolve_neg")();
  if (options_.purpose == Purpose::target) write_backs_.push_back({detached, resolved});
  return torch_tensor(resolved.ptr(), path);
}

Value Walker::torch_parameter(PyObject* o, const Path& path) {
  auto value = torch_tensor(o, path);
  if (value.type() != Value::Type::tensor) return value;
  return value.with_kind(Value::Kind::parameter,
                         Value(nb::cast<bool>(nb::handle(o).attr("requires_grad"))));
}

// One with a dispatch of its own keeps its data where nobody else knows, unless it tells.
Value Walker::torch_subclass(PyObject* o, const Path& path) {
  const nb::handle tensor(o);
  if (dtensor_.is_valid() && nb::isinstance(tensor, dtensor_)) return dtensor(o, path);
  if (nb::isinstance(tensor, torch_->uninitialized)) {
    fail(ErrorCode::unsupported, "the tensor {} is an uninitialised parameter of a lazy module",
         path.place());
  }
  if (!tensor.type().attr("__torch_dispatch__").is(torch_->plain_dispatch)) {
    return torch_other(o, path);
  }
  return nb::isinstance(tensor, torch_->parameter) ? torch_parameter(o, path)
                                                   : torch_tensor(o, path);
}

}  // namespace understudy::python
