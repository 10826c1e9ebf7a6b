// The state of all ranks, made of the leaves of their shards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "ranks/index_text.h"
#include "understudy/value.h"

namespace understudy::restore {

/// A tensor of its chunks, which are of its dtype, have the sizes that `stored` says and cover it.
using Join = std::function<Tensor(const ranks::StoredTensor& stored,
                                  const std::vector<const Tensor*>& chunks)>;

/// Equal for cut tensors that lie over the same stored bytes in the same way: they were tied, and
/// are one tensor when they are joined.
using JoinedOf =
    std::tuple<DType, Dims, std::vector<std::tuple<const Storage*, std::uint64_t, Dims>>>;
JoinedOf joined_of(const ranks::StoredTensor& stored, const std::vector<const Tensor*>& chunks);

/// The state of `index`, with what `shards`, the dicts of leaves that its files hold, have in the
/// places of its leaves. Throws Error(corrupt), naming `name`, the index, where a shard has
/// something else than the index says.
Value join_shards(const ranks::StepIndex& index, const std::vector<Value>& shards, const Join& join,
                  const std::string& name);

}  // namespace understudy::restore
