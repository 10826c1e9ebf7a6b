// Tensors over our memory. Each Storage becomes one torch storage of exactly
// its size, so that tensors which shared bytes share them again.
#include <nanobind/ndarray.h>

#include <cstring>

#include "build/build.h"
#include "core/errors.h"
#include "frameworks/torch_memory.h"

namespace understudy::python {
namespace {

nb::object import_into_torch(const Torch& torch, const Tensor& tensor, dlpack::DataType type) {
  return torch_over(torch, tensor.data(), type, tensor.shape(), tensor.strides(), tensor.storage());
}

bool covers_storage(const Tensor& tensor) {
  return tensor.byte_offset() == 0 && tensor.nbytes() == tensor.storage()->nbytes() &&
         tensor.is_contiguous();
}

// The whole storage as bytes.
Tensor flat(const Tensor& tensor) {
  const auto& storage = tensor.storage();
  return {storage, DType::u8, {static_cast<std::int64_t>(storage->nbytes())}};
}

// The elements in C order. Tensors have at most kMaxDims dimensions.
void copy_densely(const Tensor& from, std::size_t dim, const std::byte* source,
                  std::byte*& destination) {
  const auto size = static_cast<std::int64_t>(item_size(from.dtype()));
  if (dim == from.shape().size()) {
    std::memcpy(destination, source, static_cast<std::size_t>(size));
    destination += size;
    return;
  }
  for (std::int64_t i = 0; i < from.shape()[dim]; ++i) {
    copy_densely(from, dim + 1, source + i * from.strides()[dim] * size, destination);
  }
}

bool has_negative_stride(const Tensor& tensor) {
  for (const auto stride : tensor.strides()) {
    if (stride < 0) return tensor.numel() != 0;
  }
  return false;
}

}  // namespace

nb::object Builder::tensor(const Value& value) {
  const auto& tensor = value.as_tensor();
  if (makes_bytes_) {
    if (!tensor.is_contiguous()) fail(ErrorCode::corrupt, "a part of a value is no row of bytes");
    return steal_or_throw(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(tensor.data()),
                                                    static_cast<Py_ssize_t>(tensor.nbytes())));
  }
  if (value.kind() == Value::Kind::numpy_array && numpy_or_import() != nullptr)
    return numpy_array(tensor);
  const auto* torch = torch_or_import();
  if (torch == nullptr) return numpy_array(tensor);
  auto made = torch_tensor(*torch, tensor);
  if (value.kind() != Value::Kind::parameter) return made;
  const bool requires_grad =
      value.extra().type() != Value::Type::boolean || value.extra().as_boolean();
  return torch->parameter(made, nb::arg("requires_grad") = requires_grad);
}

nb::object Builder::torch_tensor(const Torch& torch, const Tensor& tensor) {
  const auto dtype = torch.dtype_objects[static_cast<std::size_t>(tensor.dtype())];
  if (!dtype.is_valid()) {
    fail(ErrorCode::unsupported, "the installed torch has no dtype '{}', which the state needs",
         name(tensor.dtype()));
  }
  if (has_negative_stride(tensor)) return torch_tensor(torch, dense_copy(tensor));
  const auto type = dlpack_type(tensor.dtype());
  if (tensor.byte_offset() % item_size(tensor.dtype()) != 0) {
    // Torch counts offsets in elements. The bytes are shared all the same.
    if (!type)
      fail(ErrorCode::unsupported, "a {} tensor at odd offset {}", name(tensor.dtype()),
           tensor.byte_offset());
    return import_into_torch(torch, tensor, *type);
  }
  auto& first = torch_storages_[tensor.storage().get()];
  if (!first.is_valid()) {
    if (type && covers_storage(tensor)) {
      first = import_into_torch(torch, tensor, *type);
      return first;
    }
    first = import_into_torch(torch, flat(tensor), *dlpack_type(DType::u8));
  }
  const nb::object storage = torch.untyped_storage(first);
  return torch_view_of(torch, storage, dtype, tensor.byte_offset() / item_size(tensor.dtype()),
                       tensor.shape(), tensor.strides());
}

// Torch has no negative strides: the values in memory of their own, where what is
// repeated by a stride of zero stays so.
Tensor Builder::dense_copy(const Tensor& tensor) {
  auto shape = tensor.shape();
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (tensor.strides()[d] == 0) shape[d] = 1;
  }
  const Tensor once(tensor.storage(), tensor.dtype(), shape, tensor.strides(),
                    tensor.byte_offset());
  // Views that overlap, or many over one storage, could ask for any amount of memory.
  constexpr std::uint64_t kMostCopies = 16;
  const auto nbytes = tensor.storage()->nbytes();
  auto& copied = copied_nbytes_[tensor.storage().get()];
  if (once.nbytes() / kMostCopies > nbytes || (copied += once.nbytes()) / kMostCopies > nbytes) {
    fail(ErrorCode::unsupported,
         "views with negative strides, which torch cannot have, would take more than {} times the "
         "{} bytes that they are views of",
         kMostCopies, nbytes);
  }
  auto copy = Tensor::zeros(once.dtype(), shape);
  auto* destination = copy.data();
  copy_densely(once, 0, once.data(), destination);
  auto strides = copy.strides();
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (tensor.strides()[d] == 0) strides[d] = 0;
  }
  return {copy.storage(), copy.dtype(), tensor.shape(), strides};
}

nb::object Builder::numpy_array(const Tensor& tensor) {
  const auto& numpy = numpy_or_import();
  if (numpy == nullptr) {
    fail(ErrorCode::unsupported, "the state has tensors, and neither torch nor NumPy is installed");
  }
  const auto type = dlpack_type(tensor.dtype());
  const bool is_known = type && tensor.dtype() != DType::c32 && tensor.dtype() != DType::bf16 &&
                        type->code <= dlpack::kBool;
  if (!is_known) {
    fail(ErrorCode::unsupported,
         "the state has a {} tensor, which needs torch, and torch is not installed",
         name(tensor.dtype()));
  }
  using Owner = std::shared_ptr<const Storage>;
  auto& owner = numpy_storages_[tensor.storage().get()];
  if (!owner.is_valid()) {
    owner = nb::capsule(new Owner(tensor.storage()),
                        [](void* p) noexcept { delete static_cast<Owner*>(p); });
  }
  std::vector<std::size_t> shape(tensor.shape().begin(), tensor.shape().end());
  return nb::cast(nb::ndarray<nb::numpy>(tensor.data(), shape.size(), shape.data(), owner,
                                         tensor.strides().data(),
                                         nb::dlpack::dtype{type->code, type->bits, 1}));
}

}  // namespace understudy::python
