// What torch keeps in a tensor and tells by no function, read where it lies.
//
// What its stable C functions tell is asked of them; they need the place of one word in a tensor's
// Python object. The rest torch's Python functions would tell, in 100 to 900 instructions each
// (`nbytes`, `is_neg`). Where the words lie differs from build to build, so they are found once, by
// tensors whose answers are known, and tried on others. Where anything does not fit, nothing is
// read, and torch's Python functions are asked. docs/torch.md lists what is read, and why.
#pragma once

#include <bit>
#include <optional>

#include "core/common.h"
#include "frameworks/stable_functions.h"

namespace understudy::python {

/// For tensors that torch's own exchange table has just described, and their
/// storages. Reads only. Under the GIL.
class Peek {
 public:
  /// Nothing where this torch keeps its tensors in another way.
  static std::optional<Peek> find(nb::handle torch_module);
  /// Whether a new tensor is a plain one just now: not inside a transformation of
  /// functions or a mode, where `find` would learn nothing about this torch.
  static bool can_look(nb::handle torch_module);

  /// Whether the tensor is a lazy conjugate or negative.
  bool has_lazy_bit(PyObject* tensor) const {
    return (word(tensor_of(tensor), keys_at_) & lazy_bits_) != 0;
  }
  /// Who the tensor's storage is: equal for all tensors over it, and another
  /// as long as it lives.
  const void* storage_of(PyObject* tensor) const {
    return reinterpret_cast<const void*>(word(tensor_of(tensor), storage_at_));
  }
  /// The same of an UntypedStorage.
  const void* storage_in(PyObject* storage) const {
    return reinterpret_cast<const void*>(word(storage, storage_handle_at_));
  }
  /// The UntypedStorage that torch keeps for a storage, borrowed: who holds it holds
  /// the storage. Null where it has none, or keeps it in another way.
  PyObject* object_of(const void* storage) const {
    if (storage_object_at_ == 0) return nullptr;
    return reinterpret_cast<PyObject*>(word(storage, storage_object_at_));
  }
  /// Bytes of a storage, as of `storage_of`, and where they are.
  std::uint64_t nbytes(const void* storage) const { return word(storage, nbytes_at_); }
  const std::byte* data(const void* storage) const {
    return reinterpret_cast<const std::byte*>(word(storage, data_at_));
  }

  /// Equal for tensors of one dtype, shape, strides and offset over one storage
  /// that are lazy in the same way. 0 for those of which torch does not tell them.
  std::uint64_t view_of(PyObject* tensor) const {
    const auto form = form_of(tensor);
    return form == 0 ? 0 : mixed(form, reinterpret_cast<std::uintptr_t>(storage_of(tensor)));
  }
  /// The same, over any storage.
  std::uint64_t form_of(PyObject* tensor) const {
    StableFunctions::Form form;
    if (!functions_.form(handle_of(tensor), form)) return 0;
    auto sum = mixed(1, word(tensor_of(tensor), keys_at_));
    sum = mixed(sum, static_cast<std::uint64_t>(form.offset));
    sum = mixed(sum, static_cast<std::uint64_t>(form.dtype) << 32 |
                         static_cast<std::uint64_t>(form.layout) << 16 |
                         static_cast<std::uint64_t>(form.device_type));
    for (std::int64_t i = 0; i < form.dims; ++i) {
      sum = mixed(sum, static_cast<std::uint64_t>(form.sizes[i]));
      sum = mixed(sum, static_cast<std::uint64_t>(form.strides[i]));
    }
    return mixed(sum, static_cast<std::uint64_t>(form.dims));
  }

  /// The same, over storages of one size: what a tensor that fitted into its storage looks
  /// like is no proof that it fits into this one. The sizes alone never make two forms equal.
  std::uint64_t form_over(PyObject* tensor, const void* storage) const {
    const auto form = form_of(tensor);
    return form == 0 ? 0 : mixed(form, nbytes(storage));
  }

  /// What torch keeps for this Python object.
  const void* tensor_of(PyObject* tensor) const {
    return reinterpret_cast<const void*>(word(tensor, handle_at_));
  }

  // What is read of a Python object, and of what torch keeps for it; see above.
  static constexpr std::size_t kObjectNbytes = 48, kTensorNbytes = 192, kStorageNbytes = 128;
  /// Has the processor fetch what will be asked about a tensor. Any address will
  /// do: what was a tensor before may be none any more.
  static void fetch(const void* object, const void* tensor, const void* storage) {
    fetch(object, kObjectNbytes);
    fetch(tensor, kTensorNbytes);
    fetch(storage, kStorageNbytes);
  }
  static void fetch(const void* from, std::size_t nbytes) {
    for (std::size_t at = 0; at < nbytes; at += 64) {
      __builtin_prefetch(static_cast<const char*>(from) + at);
    }
  }

  /// Changes when anything about the tensor itself does: its shape, storage,
  /// flags, place in autograd, hooks, owners besides the caller. Not when its
  /// bytes do, and not with its attributes (`__dict__`).
  std::uint64_t fingerprint(PyObject* tensor) const;

 private:
  // Spreads each bit over all.
  static std::uint64_t mixed(std::uint64_t sum, std::uint64_t word) {
    return std::rotl((sum ^ word) * 0x9e3779b97f4a7c15, 29);
  }
  static std::uint64_t word(const void* base, std::size_t at) {
    return *reinterpret_cast<const std::uint64_t*>(static_cast<const char*>(base) + at);
  }

  // As the stable functions have it.
  StableFunctions::Handle handle_of(PyObject* tensor) const {
    return reinterpret_cast<const char*>(tensor) + handle_at_;
  }

  StableFunctions functions_{};
  std::size_t object_nbytes_ = 0;      // of a tensor's Python object
  std::size_t handle_at_ = 0;          // in it: torch's tensor
  std::size_t storage_at_ = 0;         // in torch's tensor: its storage
  std::size_t keys_at_ = 0;            // in torch's tensor, the last word: its dispatch keys
  std::uint64_t lazy_bits_ = 0;        // among those
  std::size_t storage_handle_at_ = 0;  // in an UntypedStorage: torch's storage
  std::size_t nbytes_at_ = 0;          // in torch's storage
  std::size_t data_at_ = 0;            // in torch's storage
  std::size_t storage_object_at_ = 0;  // in torch's storage; 0: unknown

  friend struct PeekFinder;
};

}  // namespace understudy::python
