#include "checkpointer/sources.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "format/integrity.h"
#include "stage/structure.h"
#include "value/extents.h"
#include "value/walk.h"

namespace understudy {

using format::kBlockNbytes;

namespace {

// Adds where the entries of a shard lie in their tensors, and which names tied tensors have beside
// that of their entry. What the caller says goes first.
void add_facts(HeaderMetadata& metadata, const format::Layout& layout, const ShardChunks& chunks) {
  if (chunks) format::add_sharding_info(metadata, layout.entries, *chunks);
  std::set<std::string> taken;
  for (const auto& [key, text] : metadata) taken.insert(key);
  for (const auto& [name, entry] : layout.tied) {
    if (taken.insert(name).second) metadata.emplace_back(name, entry);
  }
}

}  // namespace

SnapshotSource::SnapshotSource(SnapshotState::Contents contents, HeaderMetadata metadata,
                               const ShardChunks& chunks)
    : contents_(std::move(contents)), metadata_(std::move(metadata)) {
  const auto& layout = *contents_.layout;
  add_facts(metadata_, layout, chunks);
  header_nbytes_ = format::fits(layout, contents_.tree, metadata_)
                       ? layout.header_nbytes
                       : format::header_capacity(layout, contents_.tree, metadata_);
}

std::span<const std::byte> SnapshotSource::block(std::uint64_t index, std::span<std::byte>) {
  const auto begin = index * kBlockNbytes;
  const auto& layout = *contents_.layout;
  return {contents_.image->data() + layout.header_nbytes + begin,
          std::min(kBlockNbytes, layout.data_nbytes - begin)};
}

std::optional<std::uint64_t> SnapshotSource::checksum(std::uint64_t index) const {
  if (index >= checksums_.size()) return {};
  return checksums_[index];
}

std::vector<std::byte> SnapshotSource::seal(std::span<const std::uint64_t> checksums,
                                            std::string& digest) {
  const auto& layout = *contents_.layout;
  return format::write_sealed_header(layout.entries, metadata_, contents_.tree, checksums,
                                     header_nbytes_, digest);
}

struct StateSource::Prepared {
  Prepared(const Value& state, const HeaderMetadata& metadata)
      : structure((require_storable(state), stage::examine(state))),
        form(value::file_form(structure.tensors, value::find_extents(structure.tensors))),
        layout(format::make_layout(state, form.extents, metadata, form.in_memory)),
        tree(format::encode_tree(state, layout.leaves)) {}

  stage::Structure structure;
  value::FileForm form;
  format::Layout layout;
  std::string tree;
};

StateSource::StateSource(const Value& state, HeaderMetadata metadata,
                         std::shared_ptr<const void> owner, const ShardChunks& chunks)
    : StateSource(metadata, Prepared(state, metadata), std::move(owner), chunks) {}

StateSource::StateSource(HeaderMetadata metadata, Prepared prepared,
                         std::shared_ptr<const void> owner, const ShardChunks& chunks)
    : owner_(std::move(owner)),
      metadata_(std::move(metadata)),
      layout_(std::move(prepared.layout)),
      tree_(std::move(prepared.tree)),
      plan_(layout_, std::move(prepared.form.extents)) {
  plan_.set_blobs(std::move(prepared.structure.blobs));
  add_facts(metadata_, layout_, chunks);
  if (chunks || !layout_.tied.empty()) {
    layout_.header_nbytes = format::header_capacity(layout_, tree_, metadata_);
  }
}

std::span<const std::byte> StateSource::block(std::uint64_t index, std::span<std::byte> scratch) {
  const auto begin = index * kBlockNbytes;
  const auto out = scratch.first(std::min(kBlockNbytes, layout_.data_nbytes - begin));
  plan_.fill(begin, out, true);
  return out;
}

std::vector<std::byte> StateSource::seal(std::span<const std::uint64_t> checksums,
                                         std::string& digest) {
  return format::write_sealed_header(layout_.entries, metadata_, tree_, checksums,
                                     layout_.header_nbytes, digest);
}

std::unique_ptr<store::ShardSource> source_of(const SnapshotState::Contents& contents,
                                              HeaderMetadata metadata, const ShardChunks& chunks,
                                              std::vector<std::uint64_t> checksums) {
  const auto& views = contents.layout->leaves.views;
  if (std::all_of(views.begin(), views.end(), [](const auto& view) { return view.is_entry; })) {
    auto source = std::make_unique<SnapshotSource>(contents, std::move(metadata), chunks);
    source->set_checksums(std::move(checksums));
    return source;
  }
  const auto state = std::make_shared<const Value>(
      SnapshotState::state_over(contents, contents.image->data(), contents.image));
  return std::make_unique<StateSource>(*state, std::move(metadata), state, chunks);
}

void require_storable(const Value& state, bool by_all) {
  value::walk(state, [by_all](const value::Path& path, const Value& node) {
    if (node.type() == Value::Type::opaque && !node.as_opaque().pickle) {
      fail(ErrorCode::unsupported,
           "the object of type {} at '{}' cannot be saved: it is not a tensor, a number, a text or "
           "a container of such; pass allow_pickle=True to store it pickled",
           node.as_opaque().type_name, path.str());
    }
    if (node.kind() == Value::Kind::chunk && !by_all) {
      fail(
          ErrorCode::unsupported,
          "the tensor at '{}' is a chunk of a larger one: the other ranks have the rest of it, and "
          "this process saves alone",
          path.str());
    }
    return true;
  });
}

}  // namespace understudy
