// Bytes that are still in files, known by addresses behind which there is no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ranks/chunk.h"
#include "restore/addresses.h"
#include "restore/block_reader.h"
#include "store/reader.h"
#include "understudy/tensor.h"
#include "vm/mapping.h"

namespace understudy::restore {

/// A part of a chunk that lies in a file, dense and in C order.
struct StoredPart {
  const std::byte* at = nullptr;  ///< the address of that chunk's first byte
  ranks::Chunk stored;
  ranks::Chunk part;
};

/// Tensors over its storages stand for bytes of files: whole entries, or chunks that are put
/// together of parts of several.
class StoredBytes {
 public:
  /// What is to be read, by file.
  using Reading = std::vector<std::vector<Destination>>;

  /// A file whose entries get addresses. `file` and `reader` must outlive it.
  void add_file(const store::ShardReader& file, BlockReader& reader);

  /// The storage of an entry of the file that was added last.
  std::shared_ptr<const Storage> storage(const format::Entry& entry) const {
    return files_.back().addresses.storage(entry);
  }
  /// The storage of the chunk that `parts` make up.
  std::shared_ptr<const Storage> put_together(ranks::Chunk wanted, std::uint64_t item_nbytes,
                                              std::vector<StoredPart> parts);

  /// True when it stands for bytes of files.
  bool has(const Tensor& t) const { return t.storage()->nbytes() > 0 && find(t) != nullptr; }
  /// True when its bytes may be read by themselves, without those around it.
  bool has_run(const Tensor& t) const;

  /// Adds what brings `nbytes` bytes from `from` on to `to`: of a run, or of a whole storage.
  /// `is_fresh` as in Destination.
  void add(Reading& reading, const std::byte* from, std::uint64_t nbytes, std::byte* to,
           bool is_fresh) const;
  void read(Reading reading) const;
  /// Reads and verifies the blocks that `reading` touches, and writes nothing.
  void verify(const Reading& reading) const;

 private:
  struct File {
    Addresses addresses;
    BlockReader* reader;
  };
  struct Joined {
    ranks::Chunk wanted;
    std::uint64_t item_nbytes = 0;
    std::uint64_t nbytes = 0;
    std::vector<StoredPart> parts;
  };
  // What a run of addresses is: of a file, or a chunk.
  struct Place {
    const std::byte* end;
    std::size_t file = 0;
    const Joined* joined = nullptr;
  };

  const std::pair<const std::byte* const, Place>* find(const std::byte* at) const;
  const std::pair<const std::byte* const, Place>* find(const Tensor& t) const {
    return find(t.storage()->data());
  }
  void add_part(Reading& reading, const Joined& joined, const StoredPart& part,
                std::byte* to) const;

  std::deque<File> files_;
  std::deque<Joined> joined_;
  std::map<const std::byte*, Place> places_;  // by where they begin
  std::shared_ptr<vm::Mapping> room_;         // for chunks
  std::uint64_t room_nbytes_ = 0;
  std::uint64_t room_used_ = 0;
};

}  // namespace understudy::restore
