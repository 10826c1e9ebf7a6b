// NumPy arrays, and tensors of anybody else who speaks DLPack.
#include <nanobind/stl/pair.h>

#include <algorithm>

#include "core/buffer.h"
#include "core/errors.h"
#include "walk/array_memory.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

std::optional<DType> dtype_of_format(std::string_view format, Py_ssize_t item_size) {
  if (format.starts_with('>') || format.starts_with('!')) return {};
  if (format.starts_with('<') || format.starts_with('=') || format.starts_with('@')) {
    format.remove_prefix(1);
  }
  const auto type = [&](std::uint8_t code) {
    return dtype_of({code, static_cast<std::uint8_t>(item_size * 8), 1});
  };
  if (format == "?") return DType::boolean;
  if (format == "e" || format == "f" || format == "d") return type(dlpack::kFloat);
  if (format == "Zf" || format == "Zd") return type(dlpack::kComplex);
  if (format.size() != 1) return {};
  if (std::string_view("bhilqn").find(format[0]) != std::string_view::npos)
    return type(dlpack::kInt);
  if (std::string_view("BHILQN").find(format[0]) != std::string_view::npos)
    return type(dlpack::kUInt);
  return {};
}

// One managed tensor of DLPack, of either form. Its deleter is the producer's
// and may need the GIL, so the capsule stays with the references.
struct Managed {
  const dlpack::Tensor* tensor = nullptr;
  bool is_read_only = false;
};

Managed managed_of(nb::handle capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed = static_cast<dlpack::ManagedTensor*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) return {};
    return {&managed->tensor, (managed->flags & dlpack::kReadOnly) != 0};
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    auto* managed =
        static_cast<dlpack::OldManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    return {&managed->tensor, false};
  }
  return {};
}

}  // namespace

Value Walker::numpy_array(PyObject* o, const Path& path) {
  Buffer buffer;
  if (!buffer.get(o)) {
    PyErr_Clear();  // dates and others that the protocol cannot say
    return typed_or_opaque(o, path);
  }
  const auto& view = buffer.view();
  const auto dtype = dtype_of_format(view.format == nullptr ? "B" : view.format, view.itemsize);
  if (!dtype) return typed_or_opaque(o, path);
  if (options_.purpose == Purpose::target && view.readonly != 0) {
    fail(ErrorCode::invalid, "the NumPy array {} is read-only and cannot take a restored value",
         path.place());
  }
  Dims shape(view.shape, view.shape + view.ndim);
  Dims strides;
  for (int d = 0; d < view.ndim; ++d) {
    if (view.strides[d] % view.itemsize != 0) {
      // A field of records, for example: no strided tensor can say it.
      nb::object copy = nb::handle(o).attr("copy")();
      if (options_.purpose == Purpose::target) write_backs_.push_back({nb::borrow(o), copy});
      return numpy_array(copy.ptr(), path);
    }
    strides.push_back(view.strides[d] / view.itemsize);
  }
  if (!is_within_its_owner(o, view)) {
    fail(ErrorCode::invalid,
         "the NumPy array {} reaches beyond the memory of the array that it is a view of: that was "
         "resized",
         path.place());
  }
  sources_->add(nb::borrow(o));
  if (options_.purpose == Purpose::target) targets_->add_array(o, view, path.place());
  return tensor_leaf(
             Tensor::from_owner(sources_, view.buf, *dtype, std::move(shape), std::move(strides)))
      .with_kind(Value::Kind::numpy_array);
}

// Bytes of a typed value, in a memoryview.
Value Walker::dense_part(PyObject* memory) {
  const auto step = record_ == nullptr ? 0 : record_->begin(memory, is_plain_);
  Buffer buffer;
  throw_if(!buffer.get(memory));
  const auto& view = buffer.view();
  const auto dtype = dtype_of_format(view.format == nullptr ? "B" : view.format, view.itemsize);
  if (!dtype) fail(ErrorCode::unsupported, "elements of the format '{}'", view.format);
  sources_->add(nb::borrow(memory));
  auto value = tensor_leaf(
      Tensor::from_owner(sources_, view.buf, *dtype, Dims(view.shape, view.shape + view.ndim)));
  if (record_ != nullptr) record_->end(step, memory, value);
  return value;
}

Value Walker::dlpack_tensor(PyObject* o, const Path& path) {
  const nb::handle object(o);
  const auto type = name_of_type(object.type());
  const auto device = nb::cast<std::pair<int, int>>(object.attr("__dlpack_device__")());
  if (device.first != dlpack::kCpu && device.first != dlpack::kCudaHost &&
      device.first != dlpack::kRocmHost) {
    fail(ErrorCode::unsupported,
         "the {} {} is on a device (DLPack type {}); Understudy takes host memory", type,
         path.place(), device.first);
  }
  nb::object capsule;
  try {
    capsule = object.attr("__dlpack__")(nb::arg("max_version") = nb::make_tuple(1, 3));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_TypeError)) throw;  // TypeError: from before version 1
    capsule = object.attr("__dlpack__")();
  }
  const auto managed = managed_of(capsule);
  const auto dtype = managed.tensor == nullptr ? std::nullopt : dtype_of(managed.tensor->dtype);
  if (!dtype) {
    fail(ErrorCode::unsupported,
         "the {} {} gives elements over DLPack that Understudy does not know", type, path.place());
  }
  if (options_.purpose == Purpose::target && managed.is_read_only) {
    fail(ErrorCode::invalid, "the {} {} is read-only and cannot take a restored value", type,
         path.place());
  }
  const auto& tensor = *managed.tensor;
  Dims shape(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.data == nullptr && std::ranges::find(shape, 0) == shape.end()) {
    fail(ErrorCode::unsupported, "the {} {} gives no memory over DLPack", type, path.place());
  }
  Dims strides;
  if (tensor.strides != nullptr) strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  sources_->add(std::move(capsule));
  return tensor_leaf(Tensor::from_owner(sources_,
                                        static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
                                        *dtype, std::move(shape), std::move(strides)));
}

}  // namespace understudy::python
