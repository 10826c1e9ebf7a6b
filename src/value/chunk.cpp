#include "understudy/chunk.h"

#include <utility>

namespace understudy {
namespace {

Value tuple_of(const Dims& dims) {
  Value::Items items;
  for (const auto n : dims) items.emplace_back(n);
  return Value::tuple(std::move(items));
}

Dims dims_of(const Value& tuple) {
  Dims dims;
  for (const auto& n : tuple.items()) dims.push_back(n.as_integer());
  return dims;
}

}  // namespace

Value chunk(Tensor local, const ChunkPlace& place) {
  return Value(std::move(local))
      .with_kind(Value::Kind::chunk,
                 Value::tuple({tuple_of(place.shape), tuple_of(place.offsets)}));
}

std::optional<ChunkPlace> chunk_of(const Value& leaf) {
  if (leaf.kind() != Value::Kind::chunk) return {};
  const auto items = leaf.extra().items();
  return ChunkPlace{dims_of(items[0]), dims_of(items[1])};
}

}  // namespace understudy
