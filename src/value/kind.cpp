#include "understudy/value.h"

namespace understudy {

std::string_view to_string(Value::Kind kind) noexcept {
  switch (kind) {
    case Value::Kind::plain: return "plain";
    case Value::Kind::big_integer: return "big_integer";
    case Value::Kind::surrogate_text: return "surrogate_text";
    case Value::Kind::byte_array: return "byte_array";
    case Value::Kind::ordered_dict: return "ordered_dict";
    case Value::Kind::default_dict: return "default_dict";
    case Value::Kind::counter: return "counter";
    case Value::Kind::simple_namespace: return "simple_namespace";
    case Value::Kind::argparse_namespace: return "argparse_namespace";
    case Value::Kind::deque: return "deque";
    case Value::Kind::set: return "set";
    case Value::Kind::frozen_set: return "frozen_set";
    case Value::Kind::named_tuple: return "named_tuple";
    case Value::Kind::torch_size: return "torch_size";
    case Value::Kind::torch_dtype: return "torch_dtype";
    case Value::Kind::torch_device: return "torch_device";
    case Value::Kind::numpy_scalar: return "numpy_scalar";
    case Value::Kind::numpy_dtype: return "numpy_dtype";
    case Value::Kind::path: return "path";
    case Value::Kind::numpy_array: return "numpy_array";
    case Value::Kind::parameter: return "parameter";
    case Value::Kind::slice: return "slice";
    case Value::Kind::range: return "range";
    case Value::Kind::ellipsis: return "ellipsis";
    case Value::Kind::long_integer: return "long_integer";
    case Value::Kind::typed: return "typed";
    case Value::Kind::chunk: return "chunk";
  }
  return "plain";
}

}  // namespace understudy
