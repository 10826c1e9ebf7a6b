// The state of one file, which stays there: read piece by piece, verified each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "inspect/gather.h"
#include "restore/addresses.h"
#include "store/reader.h"
#include "understudy/value.h"
#include "value/file_form.h"

namespace understudy::inspect {

/// Reads runs of one file's data section, a block of checksums at a time; keeps the
/// block that it read last.
class BlockCursor {
 public:
  explicit BlockCursor(const store::ShardReader& shard) : shard_(shard) {}

  /// Throws Error(corrupt) for bytes that are not what was written.
  void read(std::uint64_t begin, std::span<std::byte> out);

 private:
  const store::ShardReader& shard_;
  std::vector<std::byte> block_;
  std::optional<std::uint64_t> index_;
};

/// Needs a few blocks of memory, and for a tensor that is not contiguous as much as
/// it spans. Bytes come by pread, never out of a mapping: a file that is cut is an
/// error and no signal, and what is used is what was verified.
class StoredShard {
 public:
  /// Verifies every byte, where there are checksums. Throws Error(corrupt).
  explicit StoredShard(store::ShardReader shard);

  /// Its tensors have addresses that tell which are the same or overlap, but never
  /// any bytes. Pickles are bytes, never objects.
  const Value& tree() const noexcept { return tree_; }

  /// As gather() does for a tensor in memory; for one of `tree`. Thread-safe.
  void gather(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out) const;
  /// Gives back the memory of what was read last.
  void forget() const;

 private:
  /// The tensor as the file has it.
  const Tensor& in_file(const Tensor& tensor) const;
  Tensor place(const Tensor& tensor, const value::InMemory& form);
  Tensor copy_of(const Tensor& tensor) const;
  void read(std::uint64_t begin, std::span<std::byte> out) const;

  store::ShardReader shard_;
  restore::Addresses addresses_;
  Value tree_;
  // Where tensors lay in memory that the file has in C order, and those of the file.
  using Place = std::tuple<const std::byte*, Dims, Dims, DType>;
  static Place place_of(const Tensor& t);
  std::map<std::uint32_t, std::shared_ptr<const Storage>> runs_;
  std::map<Place, Tensor> placed_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<BlockCursor>> cursors_;  // that nobody uses
  // The last tensor that was not contiguous, and its bytes.
  mutable std::optional<Tensor> copied_;
  mutable std::optional<Tensor> copy_;
};

}  // namespace understudy::inspect
