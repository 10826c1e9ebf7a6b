#include "restore/decode.h"

#include <map>

#include "base/error.h"
#include "format/tree.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

bool is_below(std::string_view path, std::string_view name) {
  return path.size() > name.size() && path.starts_with(name) && path[name.size()] == '.';
}

// Which paths the caller's names take.
class Selection {
 public:
  explicit Selection(const std::vector<std::string>& names) : names_(names) {
    for (const auto& name : names) seen_[name] = false;
  }

  bool takes_all() const { return names_.empty(); }

  // As format::TreeSource::select.
  int operator()(const std::string& path) {
    int answer = 0;
    for (const auto& name : names_) {
      if (path == name || is_below(path, name)) {
        seen_[name] = true;
        answer = 2;
      } else if (answer == 0 && is_below(name, path)) {
        answer = 1;
      }
    }
    return answer;
  }

  void require_all_seen(const std::string& file) const {
    for (const auto& [name, seen] : seen_) {
      if (!seen) fail(ErrorCode::not_found, "{} has nothing named '{}'", file, name);
    }
  }

 private:
  const std::vector<std::string>& names_;
  std::map<std::string, bool> seen_;
};

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

}  // namespace

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
  selection.require_all_seen(reader.name());
  if (!allow_pickle) require_no_pickle(state, reader.name());
  return state;
}

}  // namespace understudy::restore
