#include "frameworks/stable_functions.h"

namespace understudy::python {

std::optional<StableFunctions> StableFunctions::find(nb::handle torch_module) {
  try {
    const auto ctypes = nb::module_::import_("ctypes");
    const auto os = nb::module_::import_("os");
    // The one that is loaded, and no other.
    const int mode = nb::cast<int>(os.attr("RTLD_NOLOAD")) | nb::cast<int>(os.attr("RTLD_NOW"));
    const nb::object lib = os.attr("path").attr("dirname")(torch_module.attr("__file__"));
    const nb::object path = os.attr("path").attr("join")(lib, "lib", "libtorch_cpu.so");
    const nb::object library = ctypes.attr("CDLL")(path, nb::arg("mode") = mode);
    StableFunctions found;
    const auto look = [&]<class Function>(const char* what, Function& to) {
      const nb::object function = library.attr((std::string("aoti_torch_get_") + what).c_str());
      const nb::object address = ctypes.attr("cast")(function, ctypes.attr("c_void_p"));
      to = reinterpret_cast<Function>(nb::cast<std::uintptr_t>(address.attr("value")));
    };
    look("dim", found.dim_);
    look("sizes", found.sizes_);
    look("strides", found.strides_);
    look("storage_offset", found.offset_);
    look("dtype", found.dtype_);
    look("layout", found.layout_);
    look("device_type", found.device_type_);
    look("storage_size", found.storage_size_);
    look("data_ptr", found.data_ptr_);
    return found;
  } catch (const nb::python_error&) {
    return {};
  }
}

}  // namespace understudy::python
