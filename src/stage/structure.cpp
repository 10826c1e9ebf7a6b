#include "stage/structure.h"

#include <type_traits>

#include "value/walk.h"

namespace understudy::stage {
namespace {

template <class T>
void put(std::string& out, const T& v) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void put_tensor(std::string& out, const Tensor& t) {
  put(out, t.dtype());
  put(out, t.shape().size());
  for (const auto n : t.shape()) put(out, n);
  for (const auto n : t.strides()) put(out, n);
}

}  // namespace

Structure examine(const Value& state) {
  Structure s;
  value::walk(state, [&](const value::Path&, const Value& node) {
    put(s.signature, node.type());
    put(s.signature, node.kind());
    format::Blob::Type blob;
    if (format::is_blob(node, blob)) {
      s.blobs.push_back(format::blob_bytes(node));
      put(s.signature, blob);
      put(s.signature, s.blobs.back().size());
      return false;
    }
    switch (node.type()) {
      case Value::Type::dict:
        put(s.signature, node.pairs().size());
        for (const auto& [key, child] : node.pairs()) value::append_key_id(s.signature, key);
        break;
      case Value::Type::list:
      case Value::Type::tuple: put(s.signature, node.items().size()); break;
      case Value::Type::tensor:
        s.tensors.push_back(&node.as_tensor());
        put_tensor(s.signature, node.as_tensor());
        break;
      case Value::Type::opaque:
        if (!node.as_opaque().pickle) s.opaques.push_back(node);
        break;
      default: break;
    }
    return true;
  });
  return s;
}

}  // namespace understudy::stage
