#include "restore/decode.h"

#include <map>

#include "base/error.h"
#include "format/tree.h"
#include "restore/selection.h"
#include "value/walk.h"

namespace understudy::restore {

void require_no_pickle(const Value& state, const std::string& file) {
  value::walk(state, [&](const value::Path& path, const Value& node) {
    if (node.type() == Value::Type::opaque) {
      fail(ErrorCode::unsupported,
           "{} has a pickled object of type {} at '{}'; loading it runs code from the file, so it "
           "needs allow_pickle=True",
           file, node.as_opaque().type_name, path.str());
    }
    return true;
  });
}

namespace {

// As TreeSource::select.
using Select = std::function<int(const std::string& path)>;

Value decode(const store::ShardReader& reader, const EntryMemory& memory, const Select& select) {
  const auto& entries = reader.header().entries;
  std::map<std::uint32_t, std::shared_ptr<const Storage>> storages;
  const auto tensor_of = [&](const format::View& view) {
    auto v = view;
    format::resolve_view(v, entries, reader.name());
    auto& storage = storages[v.entry];
    if (!storage) storage = memory.storage(v.entry);
    const Tensor tensor(storage, v.dtype, v.shape, v.strides, v.byte_offset);
    return Value(v.in_memory ? memory.arrange(tensor, *v.in_memory) : tensor);
  };
  if (reader.integrity()) {
    format::TreeSource source;
    source.tensor = tensor_of;
    source.blob = [&](std::uint32_t entry) {
      if (entry >= entries.size()) {
        fail(ErrorCode::corrupt, "{}: the tree names entry {} of {}", reader.name(), entry,
             entries.size());
      }
      return memory.bytes(entry);
    };
    source.reads_blob = memory.reads_bytes;
    source.opaque = [&](std::uint32_t, const std::string& type_name) -> Value {
      fail(ErrorCode::corrupt, "{}: the tree has an object of type {} that is not in the file",
           reader.name(), type_name);
    };
    source.select = select;
    return format::decode_tree(reader.integrity()->tree, entries, source, reader.name());
  }
  Value::Pairs pairs;
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    if (select && select(entries[i].name) != 2) continue;
    format::View view;
    view.entry = i;
    view.is_entry = true;
    pairs.emplace_back(entries[i].name, tensor_of(view));
  }
  return Value::dict(std::move(pairs));
}

}  // namespace

Value decode_state(const store::ShardReader& reader, const EntryMemory& memory,
                   const std::vector<std::string>& names, bool allow_pickle) {
  Selection selection(names);
  auto state =
      decode(reader, memory, selection.takes_all() ? Select() : Select(std::ref(selection)));
  if (const auto* name = selection.first_unseen()) {
    fail(ErrorCode::not_found, "{} has nothing named '{}'", reader.name(), *name);
  }
  if (!allow_pickle) require_no_pickle(state, reader.name());
  return state;
}

std::map<std::string, Value> decode_leaves(const store::ShardReader& reader,
                                           const EntryMemory& memory,
                                           const std::set<std::string>& keys, bool allow_pickle) {
  const auto state =
      decode(reader, memory, [&](const std::string& path) { return keys.contains(path) ? 2 : 0; });
  if (!allow_pickle) require_no_pickle(state, reader.name());
  std::map<std::string, Value> leaves;
  if (state.type() != Value::Type::dict) return leaves;
  for (const auto& [key, leaf] : state.pairs()) {
    if (key.type() == Value::Type::text && keys.contains(key.as_text())) {
      leaves.emplace(key.as_text(), leaf);
    }
  }
  return leaves;
}

}  // namespace understudy::restore
