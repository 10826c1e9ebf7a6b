// What is known of torch and NumPy. Neither is needed; torch is looked at only
// once somebody has imported it, or when a state that is loaded needs it.
#pragma once

#include <array>
#include <optional>
#include <unordered_map>

#include "core/common.h"
#include "frameworks/dlpack.h"
#include "frameworks/peek.h"
#include "understudy/dtype.h"

namespace understudy::python {

/// References are never given back: modules live as long as the process.
struct Torch {
  nb::handle module;
  nb::handle tensor;  ///< types
  nb::handle parameter;
  nb::handle uninitialized;  ///< base of what lazy modules hold
  nb::handle size;
  nb::handle dtype;
  nb::handle device;
  nb::handle strided;          ///< torch.strided
  nb::handle untyped_storage;  ///< methods of Tensor
  nb::handle is_neg;
  nb::handle is_conj;
  nb::handle plain_dispatch;                 ///< Tensor.__torch_dispatch__: not overridden
  const dlpack::ExchangeApi* api = nullptr;  ///< null in torch before about 2.10
  std::optional<Peek> peek;                  ///< nothing in a torch of another make
  std::unordered_map<PyObject*, DType> dtypes;
  std::array<nb::handle, kDTypeCount> dtype_objects;        ///< null where this torch lacks one
  std::unordered_map<std::string, nb::handle> dtype_names;  ///< quantised ones too
};

struct Numpy {
  nb::handle module;
  nb::handle ndarray;  ///< types
  nb::handle generic;
  nb::handle dtype;
};

/// Null unless it has been imported.
const Torch* torch_if_loaded();
const Numpy* numpy_if_loaded();

/// Imported now if need be; null where it is not installed.
const Torch* torch_or_import();
const Numpy* numpy_or_import();

/// torch.distributed.tensor.DTensor, once somebody has imported it; else null.
nb::handle dtensor_type();

/// The type of elements in DLPack's terms, or nothing where it has none of
/// ours. Torch's narrow integers look like int8 and uint8.
std::optional<DType> dtype_of(dlpack::DataType type);
/// Whether a tensor is a lazy conjugate or negative: its bytes are not its values.
/// The exchange table is silent about that.
bool has_lazy_bit(const Torch& torch, PyObject* tensor, dlpack::DataType type);
/// The reverse of dtype_of; nothing for the types that DLPack lacks.
std::optional<dlpack::DataType> dlpack_type(DType dtype);

/// Makes the fall-back for torch without DLPack's exchange table take over, so
/// that tests reach it on any torch.
void use_exchange_api(bool use);
/// How it is found out what a tensor is, and why so.
std::string how_tensors_are_known();
/// The same for looking into tensors; says whether it is done now. Stagers that
/// look go on.
bool use_peek(bool use);

}  // namespace understudy::python
