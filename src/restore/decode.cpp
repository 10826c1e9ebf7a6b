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

Value decode_state(const store::ShardReader& reader, const EntryMemory& memory,
                   const std::vector<std::string>& names, bool allow_pickle) {
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
  Selection selection(names);
  Value state;
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
    if (!selection.takes_all()) source.select = std::ref(selection);
    state = format::decode_tree(reader.integrity()->tree, entries, source, reader.name());
  } else {
    Value::Pairs pairs;
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (!selection.takes_all() && selection(entries[i].name) != 2) continue;
      format::View view;
      view.entry = i;
      view.is_entry = true;
      pairs.emplace_back(entries[i].name, tensor_of(view));
    }
    state = Value::dict(std::move(pairs));
  }
  if (const auto* name = selection.first_unseen()) {
    fail(ErrorCode::not_found, "{} has nothing named '{}'", reader.name(), *name);
  }
  if (!allow_pickle) require_no_pickle(state, reader.name());
  return state;
}

}  // namespace understudy::restore
