#include "inspect/outline.h"

#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "base/worker_pool.h"
#include "format/integrity.h"
#include "format/tree.h"
#include "restore/block_reader.h"
#include "restore/decode.h"
#include "restore/join_shards.h"
#include "value/walk.h"

namespace understudy::inspect {
namespace {

// Long leaves that are read to be looked at. A list of numbers takes six times as
// much memory as its bytes, and nobody reads so much.
constexpr std::uint64_t kMaxReadNbytes = std::uint64_t{64} << 20;

using Storages = std::vector<std::shared_ptr<const Storage>>;

Storages storages_of(const format::Header& header) {
  Storages storages;
  storages.reserve(header.entries.size());
  for (const auto& entry : header.entries) {
    storages.push_back(std::make_shared<const Storage>(nullptr, entry.nbytes(), nullptr));
  }
  return storages;
}

/// The tensor that an entry is by itself, or an opaque leaf when no tensor can
/// be it.
Value whole_entry(const format::Header& header, std::uint32_t index,
                  std::shared_ptr<const Storage> storage) {
  format::View view;
  view.entry = index;
  view.is_entry = true;
  try {
    format::resolve_view(view, header.entries, "");
    return Tensor(std::move(storage), view.dtype, view.shape, view.strides, view.byte_offset);
  } catch (const Error&) {
    return Value(Opaque{header.entries[index].dtype, nullptr, nullptr, nullptr});
  }
}

// Which entry of which shard a storage stands for, and which run of memory its tensor shares, if it
// does.
struct Origin {
  std::uint32_t shard;
  std::uint32_t entry;
  std::optional<std::uint32_t> run;
};
using Runs = std::map<std::uint32_t, std::shared_ptr<const Storage>>;

// Where the tensors of a tree come from: by the storage; where several entries share a run of
// memory, by the place in it, too.
struct Origins {
  using Place = std::tuple<const Storage*, std::uint64_t, Dims, Dims, DType>;
  std::unordered_map<const Storage*, Origin> entries;
  std::map<Place, Origin> placed;
  std::unordered_map<const Storage*, const ranks::StoredTensor*> cut;

  static Place place(const Tensor& t) {
    return {t.storage().get(), t.byte_offset(), t.shape(), t.strides(), t.dtype()};
  }

  Origin of(const Tensor& t) const {
    const auto entry = entries.find(t.storage().get());
    return entry != entries.end() ? entry->second : placed.at(place(t));
  }
};

Value decode(const store::ShardReader& shard, const Storages& storages, Origins& origins) {
  const auto& entries = shard.header().entries;
  Runs runs;
  WorkerPool readers("us-read", 1);
  restore::BlockReader reader(shard, readers);
  std::uint64_t nbytes = 0;
  const restore::EntryMemory memory{
      [&](std::uint32_t entry) { return storages[entry]; },
      [&](std::uint32_t entry) { return reader.bytes(entries[entry]); },
      [&](const Tensor& t, const value::InMemory& form) {
        auto& run = runs[form.run];
        if (!run) run = std::make_shared<const Storage>(nullptr, form.run_nbytes, nullptr);
        const Tensor placed(run, t.dtype(), t.shape(), form.strides, form.byte_offset);
        auto origin = origins.of(t);
        origin.run = form.run;
        origins.placed[Origins::place(placed)] = origin;
        return placed;
      },
      [&](std::uint32_t entry) {
        if (entries[entry].nbytes() > kMaxReadNbytes - nbytes) return false;
        nbytes += entries[entry].nbytes();
        return true;
      }};
  return restore::decode_state(shard, memory, {}, /*allow_pickle=*/true);
}

Value flat_dict(const format::Header& header, const Storages& storages) {
  Value::Pairs pairs;
  pairs.reserve(header.entries.size());
  for (std::uint32_t i = 0; i < header.entries.size(); ++i) {
    pairs.emplace_back(header.entries[i].name, whole_entry(header, i, storages[i]));
  }
  return Value::dict(std::move(pairs));
}

/// A shard's own tree.
Value tree_of(const store::ShardReader& shard, std::uint32_t index, Origins& origins) {
  const auto storages = storages_of(shard.header());
  for (std::size_t i = 0; i < storages.size(); ++i) {
    origins.entries[storages[i].get()] = {index, static_cast<std::uint32_t>(i), {}};
  }
  return shard.integrity() ? decode(shard, storages, origins) : flat_dict(shard.header(), storages);
}

/// The tree of several shards.
Value whole_tree(const OpenTarget& target, const std::vector<Value>& shards, Origins& origins) {
  const auto join = [&](const ranks::StoredTensor& stored, const std::vector<const Tensor*>&) {
    const auto storage = std::make_shared<const Storage>(
        nullptr, *ranks::possible_nbytes(stored.shape, stored.dtype), nullptr);
    origins.cut[storage.get()] = &stored;
    return Tensor(storage, stored.dtype, stored.shape);
  };
  return restore::join_shards(*target.index, shards, join, target.name());
}

}  // namespace

Outline outline_of(const OpenTarget& target) {
  Origins origins;
  std::vector<Value> shards;
  for (const auto& shard : target.shards) {
    shards.push_back(tree_of(shard, static_cast<std::uint32_t>(shards.size()), origins));
  }
  Outline outline;
  outline.tree = target.index ? whole_tree(target, shards, origins) : std::move(shards.front());
  value::walk(outline.tree, [&](const value::Path& path, const Value& node) {
    if (node.type() == Value::Type::tensor) {
      const auto& tensor = node.as_tensor();
      const auto cut = origins.cut.find(tensor.storage().get());
      if (cut != origins.cut.end()) {
        outline.tensors.push_back({path.str(), &tensor, 0, 0, {}, cut->second});
      } else {
        const auto origin = origins.of(tensor);
        outline.tensors.push_back({path.str(), &tensor, origin.shard, origin.entry, origin.run});
      }
    }
    return true;
  });
  return outline;
}

}  // namespace understudy::inspect
