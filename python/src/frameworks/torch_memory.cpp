#include "frameworks/torch_memory.h"

namespace understudy::python {
namespace {

// What DLPack's deleter frees: plain C++, for any thread, without the GIL.
struct Lease {
  std::shared_ptr<const void> owner;
  Dims shape;
  Dims strides;
  dlpack::ManagedTensor managed{};
  dlpack::OldManagedTensor old{};
};

// A capsule that nobody took still owns its tensor.
void free_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
  auto* managed = static_cast<dlpack::OldManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

}  // namespace

nb::object torch_over(const Torch& torch, void* data, dlpack::DataType type, const Dims& shape,
                      const Dims& strides, std::shared_ptr<const void> owner) {
  auto lease = std::make_unique<Lease>();
  lease->owner = std::move(owner);
  lease->shape = shape;
  lease->strides = strides;
  const dlpack::Tensor lent{data, {dlpack::kCpu, 0},   static_cast<std::int32_t>(shape.size()),
                            type, lease->shape.data(), lease->strides.data(),
                            0};
  lease->managed = {{1, 0},
                    lease.get(),
                    [](dlpack::ManagedTensor* m) { delete static_cast<Lease*>(m->context); },
                    0,
                    lent};
  lease->old = {lent, lease.get(),
                [](dlpack::OldManagedTensor* m) { delete static_cast<Lease*>(m->context); }};
  if (torch.api != nullptr) {
    void* made = nullptr;
    throw_if(torch.api->managed_to_object(&lease->managed, &made) != 0);
    lease.release();  // NOLINT: torch's now
    return nb::steal(static_cast<PyObject*>(made));
  }
  auto capsule = steal_or_throw(PyCapsule_New(&lease->old, "dltensor", free_capsule));
  lease.release();
  return torch.module.attr("utils").attr("dlpack").attr("from_dlpack")(capsule);
}

nb::object storage_over(const Torch& torch, void* data, std::uint64_t nbytes,
                        std::shared_ptr<const void> owner) {
  if (nbytes == 0) return torch.module.attr("UntypedStorage")(0, nb::arg("device") = "cpu");
  const auto flat = torch_over(torch, data, {dlpack::kUInt, 8, 1},
                               {static_cast<std::int64_t>(nbytes)}, {1}, std::move(owner));
  return call_method(torch.untyped_storage, flat.ptr());
}

nb::object tuple_of(const Dims& dims) {
  auto tuple = steal_or_throw(PyTuple_New(static_cast<Py_ssize_t>(dims.size())));
  Py_ssize_t i = 0;
  for (const auto n : dims) {
    throw_if(PyTuple_SetItem(tuple.ptr(), i++,
                             steal_or_throw(PyLong_FromLongLong(n)).release().ptr()) != 0);
  }
  return tuple;
}

nb::object torch_view_of(const Torch& torch, nb::handle storage, nb::handle dtype,
                         std::uint64_t offset, const Dims& shape, const Dims& strides) {
  const nb::object view =
      torch.module.attr("empty")(0, nb::arg("dtype") = dtype, nb::arg("device") = "cpu");
  return view.attr("set_")(storage, offset, tuple_of(shape), tuple_of(strides));
}

}  // namespace understudy::python
