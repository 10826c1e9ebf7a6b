#include "frameworks/frameworks.h"

#include <cstdlib>
#include <string_view>

namespace understudy::python {
namespace {

Torch* torch_found = nullptr;
Numpy* numpy_found = nullptr;
const dlpack::ExchangeApi* torch_api = nullptr;
std::optional<Peek> torch_peek;
bool is_peek_known = false, is_peek_wanted = true;

nb::handle keep(nb::object o) {
  return o.release();
}

const dlpack::ExchangeApi* find_exchange_api(nb::handle tensor_type) {
  const auto capsule = nb::getattr(tensor_type, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* header = static_cast<dlpack::ExchangeApiHeader*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  // Majors change the layout; a framework chains the older tables behind.
  while (header != nullptr && header->version.major != 1) header = header->previous;
  auto* api = reinterpret_cast<dlpack::ExchangeApi*>(header);
  return api != nullptr && api->lend_from_object != nullptr ? api : nullptr;
}

void find_dtypes(Torch& torch) {
  const nb::dict names = nb::borrow<nb::dict>(torch.module.attr("__dict__"));
  for (auto [key, value] : names) {
    if (!nb::isinstance(value, torch.dtype)) continue;
    // "torch.float32"; short names such as torch.float are the same object.
    const auto full = text_of(nb::str(value));
    const auto name = full.substr(full.find('.') + 1);
    torch.dtype_names.emplace(name, nb::borrow(value).release());
    if (const auto dtype = dtype_from_name(name)) {
      torch.dtypes.emplace(value.ptr(), *dtype);
      torch.dtype_objects[static_cast<std::size_t>(*dtype)] = value;
    }
  }
}

Torch* make_torch(nb::handle module) {
  auto torch = std::make_unique<Torch>();
  torch->module = module;
  torch->tensor = keep(module.attr("Tensor"));
  torch->parameter = keep(module.attr("nn").attr("Parameter"));
  torch->uninitialized = keep(module.attr("nn").attr("parameter").attr("UninitializedTensorMixin"));
  torch->size = keep(module.attr("Size"));
  torch->dtype = keep(module.attr("dtype"));
  torch->device = keep(module.attr("device"));
  torch->strided = keep(module.attr("strided"));
  torch->untyped_storage = keep(torch->tensor.attr("untyped_storage"));
  torch->is_neg = keep(torch->tensor.attr("is_neg"));
  torch->is_conj = keep(torch->tensor.attr("is_conj"));
  torch->plain_dispatch = keep(torch->tensor.attr("__torch_dispatch__"));
  torch->api = torch_api = find_exchange_api(torch->tensor);
  find_dtypes(*torch);
  return torch.release();
}

void look_for_peek(Torch& torch) {
  if (is_peek_known || !Peek::can_look(torch.module)) return;
  is_peek_known = true;  // first: looking may come here again
  const auto* const wanted = std::getenv("UNDERSTUDY_PEEK");
  is_peek_wanted = wanted == nullptr || std::string_view(wanted) != "0";
  if (!is_peek_wanted) return;
  torch.peek = torch_peek = Peek::find(torch.module);
}

Numpy* make_numpy(nb::handle module) {
  auto numpy = std::make_unique<Numpy>();
  numpy->module = module;
  numpy->ndarray = keep(module.attr("ndarray"));
  numpy->generic = keep(module.attr("generic"));
  numpy->dtype = keep(module.attr("dtype"));
  return numpy.release();
}

// The module if it is in sys.modules and has been executed as far as `last`,
// which it defines late.
nb::object imported(const char* name, const char* last) {
  const auto key = nb::str(name);
  auto module = nb::steal(PyImport_GetModule(key.ptr()));
  if (!module.is_valid()) {
    throw_if(PyErr_Occurred() != nullptr);
    return {};
  }
  return nb::hasattr(module, last) ? module : nb::object();
}

// False when it is not installed; what its import raises besides passes through.
bool try_import(const char* name) {
  auto module = nb::steal(PyImport_ImportModule(name));
  if (module.is_valid()) return true;
  nb::python_error error;
  if (error.matches(PyExc_ImportError)) return false;
  throw error;
}

}  // namespace

const Torch* torch_if_loaded() {
  if (torch_found == nullptr) {
    auto module = imported("torch", "compile");
    if (module.is_valid()) torch_found = make_torch(module.release());
  }
  if (torch_found != nullptr) look_for_peek(*torch_found);
  return torch_found;
}

const Numpy* numpy_if_loaded() {
  if (numpy_found == nullptr) {
    auto module = imported("numpy", "ndarray");
    if (module.is_valid()) numpy_found = make_numpy(module.release());
  }
  return numpy_found;
}

const Torch* torch_or_import() {
  if (const auto* torch = torch_if_loaded()) return torch;
  return try_import("torch") ? torch_if_loaded() : nullptr;
}

const Numpy* numpy_or_import() {
  if (const auto* numpy = numpy_if_loaded()) return numpy;
  return try_import("numpy") ? numpy_if_loaded() : nullptr;
}

nb::handle dtensor_type() {
  static nb::handle found;
  if (found.is_valid()) return found;
  const nb::dict modules = nb::module_::import_("sys").attr("modules");
  const char* const name = "torch.distributed.tensor";
  if (!modules.contains(name)) return {};
  nb::object type = nb::getattr(modules[name], "DTensor", nb::none());
  if (PyType_Check(type.ptr()) == 0) return {};  // it is being imported
  return found = type.release();
}

std::optional<DType> dtype_of(dlpack::DataType type) {
  if (type.code == dlpack::kFloat4E2m1fn) {
    if (type.bits == 4 && type.lanes == 2) return DType::f4_e2m1_x2;
    return {};
  }
  if (type.lanes != 1) return {};
  const auto by_bits = [&](std::optional<DType> b8, std::optional<DType> b16,
                           std::optional<DType> b32, std::optional<DType> b64,
                           std::optional<DType> b128 = {}) -> std::optional<DType> {
    switch (type.bits) {
      case 8: return b8;
      case 16: return b16;
      case 32: return b32;
      case 64: return b64;
      case 128: return b128;
      default: return {};
    }
  };
  switch (type.code) {
    case dlpack::kInt: return by_bits(DType::i8, DType::i16, DType::i32, DType::i64);
    case dlpack::kUInt: return by_bits(DType::u8, DType::u16, DType::u32, DType::u64);
    case dlpack::kFloat: return by_bits({}, DType::f16, DType::f32, DType::f64);
    case dlpack::kBfloat: return by_bits({}, DType::bf16, {}, {});
    case dlpack::kComplex: return by_bits({}, {}, DType::c32, DType::c64, DType::c128);
    case dlpack::kBool: return by_bits(DType::boolean, {}, {}, {});
    case dlpack::kFloat8E4m3fn: return by_bits(DType::f8_e4m3, {}, {}, {});
    case dlpack::kFloat8E4m3fnuz: return by_bits(DType::f8_e4m3fnuz, {}, {}, {});
    case dlpack::kFloat8E5m2: return by_bits(DType::f8_e5m2, {}, {}, {});
    case dlpack::kFloat8E5m2fnuz: return by_bits(DType::f8_e5m2fnuz, {}, {}, {});
    case dlpack::kFloat8E8m0fnu: return by_bits(DType::f8_e8m0, {}, {}, {});
    default: return {};
  }
}

bool has_lazy_bit(const Torch& torch, PyObject* tensor, dlpack::DataType type) {
  if (torch.peek) return torch.peek->has_lazy_bit(tensor);
  const auto says = [&](nb::handle method) { return call_method(method, tensor).is(Py_True); };
  if (type.code == dlpack::kComplex && says(torch.is_conj)) return true;
  // The imaginary part of a conjugate is a negative view of real type.
  return (type.code == dlpack::kComplex || type.code == dlpack::kFloat) && says(torch.is_neg);
}

std::optional<dlpack::DataType> dlpack_type(DType dtype) {
  const auto type = [](std::uint8_t code, int bits) {
    return dlpack::DataType{code, static_cast<std::uint8_t>(bits), 1};
  };
  const int bits = static_cast<int>(8 * item_size(dtype));
  switch (dtype) {
    case DType::boolean: return type(dlpack::kBool, bits);
    case DType::i8:
    case DType::i16:
    case DType::i32:
    case DType::i64: return type(dlpack::kInt, bits);
    case DType::u8:
    case DType::u16:
    case DType::u32:
    case DType::u64: return type(dlpack::kUInt, bits);
    case DType::f16:
    case DType::f32:
    case DType::f64: return type(dlpack::kFloat, bits);
    case DType::bf16: return type(dlpack::kBfloat, bits);
    case DType::c32:
    case DType::c64:
    case DType::c128: return type(dlpack::kComplex, bits);
    case DType::f8_e4m3: return type(dlpack::kFloat8E4m3fn, bits);
    case DType::f8_e4m3fnuz: return type(dlpack::kFloat8E4m3fnuz, bits);
    case DType::f8_e5m2: return type(dlpack::kFloat8E5m2, bits);
    case DType::f8_e5m2fnuz: return type(dlpack::kFloat8E5m2fnuz, bits);
    case DType::f8_e8m0: return type(dlpack::kFloat8E8m0fnu, bits);
    default: return {};
  }
}

void use_exchange_api(bool use) {
  if (torch_found != nullptr) torch_found->api = use ? torch_api : nullptr;
}

std::string how_tensors_are_known() {
  const auto* torch = torch_or_import();
  if (torch == nullptr) return "by nothing: torch is not installed";
  if (!is_peek_known) return "by its Python functions, while it is inside a transformation or mode";
  if (!is_peek_wanted) return "by its Python functions: UNDERSTUDY_PEEK is 0";
  if (!torch_peek) return "by its Python functions: this torch keeps its tensors in another way";
  return "by its stable C functions, and by reading in place what they do not tell";
}

bool use_peek(bool use) {
  if (torch_found != nullptr) torch_found->peek = use ? torch_peek : std::nullopt;
  return use && torch_peek;
}

}  // namespace understudy::python
