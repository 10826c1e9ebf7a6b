#include "frameworks/storage_bytes.h"

namespace understudy::python {

bool StorageBytes::hold(const Tensor& tensor) const {
  const auto& covered = *tensor.storage();
  if (tensor.numel() == 0) return true;
  if (covered.data() < data) return false;
  const auto offset = static_cast<std::uint64_t>(covered.data() - data);
  return offset <= nbytes && covered.nbytes() <= nbytes - offset;
}

StorageBytes bytes_of(const Torch& torch, nb::handle storage) {
  if (torch.peek) {
    const auto* id = torch.peek->storage_in(storage.ptr());
    return {torch.peek->data(id), torch.peek->nbytes(id)};
  }
  return {reinterpret_cast<const std::byte*>(nb::cast<std::uintptr_t>(storage.attr("data_ptr")())),
          nb::cast<std::uint64_t>(storage.attr("nbytes")())};
}

}  // namespace understudy::python
