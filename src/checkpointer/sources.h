// What is written: a snapshot's image as it lies, or a state gathered on the way.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "format/sharding_info.h"
#include "stage/snapshot.h"
#include "store/source.h"
#include "transfer/plan.h"
#include "understudy/value.h"

namespace understudy {

using HeaderMetadata = std::vector<std::pair<std::string, std::string>>;

/// Where the chunks of a shard begin in their tensors; null for a state that is whole.
using ShardChunks = std::optional<format::ChunkOffsets>;

/// The image of a snapshot, without a copy.
class SnapshotSource : public store::ShardSource {
 public:
  SnapshotSource(SnapshotState::Contents contents, HeaderMetadata metadata,
                 const ShardChunks& chunks = {});

  std::uint64_t header_nbytes() const override { return header_nbytes_; }
  std::uint64_t data_nbytes() const override { return contents_.layout->data_nbytes; }
  std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override;
  std::optional<std::uint64_t> checksum(std::uint64_t index) const override;
  std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                              std::string& digest) override;
  /// All of the image's, taken before it is written.
  void set_checksums(std::vector<std::uint64_t> checksums) { checksums_ = std::move(checksums); }

 private:
  SnapshotState::Contents contents_;
  std::vector<std::uint64_t> checksums_;  // of all blocks, or none
  HeaderMetadata metadata_;
  std::uint64_t header_nbytes_;
};

/// A state in file form (value/file_form.h), gathered block by block into the writer's buffers.
class StateSource : public store::ShardSource {
 public:
  /// `state` must outlive it, unless `owner` keeps it.
  StateSource(const Value& state, HeaderMetadata metadata, std::shared_ptr<const void> owner = {},
              const ShardChunks& chunks = {});

  std::uint64_t header_nbytes() const override { return layout_.header_nbytes; }
  std::uint64_t data_nbytes() const override { return layout_.data_nbytes; }
  std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override;
  std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                              std::string& digest) override;

 private:
  struct Prepared;
  StateSource(HeaderMetadata metadata, Prepared prepared, std::shared_ptr<const void> owner,
              const ShardChunks& chunks);

  std::shared_ptr<const void> owner_;
  HeaderMetadata metadata_;
  format::Layout layout_;
  std::string tree_;
  transfer::Plan plan_;
};

/// What the file of a snapshot is written from: the image as it lies; or, where tensors in it are
/// no entries of their own, the state in the image, brought into file form on the way. So it is the
/// writer that pays for the order of bytes that other people's tools want, and never the capture.
/// `checksums`: of all blocks of the image, if they are known.
std::unique_ptr<store::ShardSource> source_of(const SnapshotState::Contents& contents,
                                              HeaderMetadata metadata,
                                              const ShardChunks& chunks = {},
                                              std::vector<std::uint64_t> checksums = {});

/// Throws Error(unsupported) with the path of the first leaf that no file can
/// hold (an object, unless it comes with a pickle); a chunk, unless all ranks save.
void require_storable(const Value& state, bool by_all = false);

}  // namespace understudy
