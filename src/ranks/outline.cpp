#include "ranks/outline.h"

#include "base/error.h"
#include "format/hash.h"
#include "ranks/wire.h"

namespace understudy::ranks {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kNumberNbytes = 8;

void put_dims(std::string& out, const Dims& dims) {
  for (const auto n : dims) put_number(out, static_cast<std::uint64_t>(n));
}

class Decoder {
 public:
  Decoder(std::string_view bytes, int rank) : in_(bytes), rank_(rank) {}

  Outline decode() {
    if (need(in_.number()) != kVersion) {
      fail(ErrorCode::corrupt,
           "rank {} sent an outline of another version; all ranks must run one version", rank_);
    }
    Outline outline;
    outline.tensors.resize(need(in_.count(6 * kNumberNbytes)));
    for (auto& tensor : outline.tensors) decode(tensor);
    if (!in_.rest().empty()) refuse("goes on after its end");
    return outline;
  }

 private:
  template <class T>
  T need(std::optional<T> part) const {
    if (!part) refuse("ends too early");
    return *part;
  }
  [[noreturn]] void refuse(std::string_view why) const {
    fail(ErrorCode::corrupt, "rank {} sent an outline that {}", rank_, why);
  }

  Dims dims(std::size_t count) {
    Dims dims(count);
    for (auto& n : dims) n = static_cast<std::int64_t>(need(in_.number()));
    return dims;
  }

  void decode(TensorOutline& tensor) {
    tensor.path = need(in_.text());
    const auto dtype = need(in_.text());
    const auto known = dtype_from_name(dtype);
    if (!known) refuse(format_text("has the dtype {}, which is unknown here", in_quotes(dtype)));
    tensor.dtype = *known;
    const auto ndims = need(in_.count(kNumberNbytes));
    if (ndims > kMaxDims) refuse(format_text("has a tensor of {} dimensions", ndims));
    tensor.shape = dims(ndims);
    // A tensor without dimensions has no more than one chunk, and that takes no bytes.
    const auto nbytes = 2 * kNumberNbytes * ndims;
    const auto count = ndims > 0 ? need(in_.count(nbytes)) : need(in_.number());
    if (ndims == 0 && count > 1) refuse("has several chunks of a tensor without dimensions");
    tensor.chunks.resize(count);
    for (auto& chunk : tensor.chunks) {
      chunk.offsets = dims(ndims);
      chunk.sizes = dims(ndims);
    }
    tensor.shares_with = need(in_.text());
    const auto is_tensor = need(in_.number());
    if (is_tensor > 1) refuse("has a tensor that is neither one nor none");
    tensor.is_tensor = is_tensor == 1;
  }

  WireReader in_;
  const int rank_;
};

}  // namespace

std::string encode_outline(const Outline& outline) {
  std::string out;
  put_number(out, kVersion);
  put_number(out, outline.tensors.size());
  for (const auto& tensor : outline.tensors) {
    put_text(out, tensor.path);
    put_text(out, name(tensor.dtype));
    put_number(out, tensor.shape.size());
    put_dims(out, tensor.shape);
    put_number(out, tensor.chunks.size());
    for (const auto& chunk : tensor.chunks) {
      put_dims(out, chunk.offsets);
      put_dims(out, chunk.sizes);
    }
    put_text(out, tensor.shares_with);
    put_number(out, tensor.is_tensor ? 1 : 0);
  }
  return out;
}

Outline decode_outline(std::string_view bytes, int rank) {
  return Decoder(bytes, rank).decode();
}

std::string outline_hash(std::string_view encoded) {
  return format::hash128_hex(std::as_bytes(std::span(encoded)));
}

}  // namespace understudy::ranks
