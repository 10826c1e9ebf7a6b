// From a file's header to a state over memory that somebody provides.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "store/reader.h"
#include "understudy/files.h"
#include "understudy/value.h"
#include "value/file_form.h"

namespace understudy::restore {

/// Where the entries' bytes are to lie.
struct EntryMemory {
  /// The storage of an entry (index into the header's entries); asked once.
  /// Its bytes may be filled later.
  std::function<std::shared_ptr<const Storage>(std::uint32_t entry)> storage;
  /// The bytes of an entry, now.
  std::function<std::string(std::uint32_t entry)> bytes;
  /// The tensor that stands for one which the file has in C order, and which lay otherwise in
  /// memory (restore/arrange.h).
  std::function<Tensor(const Tensor& in_file, const value::InMemory& form)> arrange;
  /// As format::TreeSource::reads_blob.
  std::function<bool(std::uint32_t entry)> reads_bytes = nullptr;
};

/// The state that `reader`'s header describes: the tree for a file of ours, a
/// flat dict for anyone else's. Only what `names` takes; empty takes all.
/// Throws Error(corrupt), Error(not_found) for a name that takes nothing, and
/// Error(unsupported) for pickles without `allow_pickle`.
Value decode_state(const store::ShardReader& reader, const EntryMemory& memory,
                   const std::vector<std::string>& names, bool allow_pickle);

/// Of the dict that is the state of a shard, the leaves with those keys; what is not there is left
/// out. Throws as decode_state.
std::map<std::string, Value> decode_leaves(const store::ShardReader& reader,
                                           const EntryMemory& memory,
                                           const std::set<std::string>& keys, bool allow_pickle);

/// Throws Error(unsupported) for a pickle in `state`, which was read of `file`.
void require_no_pickle(const Value& state, const std::string& file);

}  // namespace understudy::restore
