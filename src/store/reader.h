// Reading: one file, block by block, verified; and the steps of a folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/integrity.h"
#include "format/safetensors.h"
#include "os/file.h"
#include "store/manifest.h"
#include "understudy/error.h"

namespace understudy::store {

/// An open safetensors file, ours or anyone's. Its header has been read and
/// checked. Thread-safe.
class ShardReader {
 public:
  /// Throws Error(not_found, corrupt, io, unsupported), naming the file. What is
  /// another kind of file is unsupported, and named for what it is.
  explicit ShardReader(const std::filesystem::path& path);
  explicit ShardReader(os::File file);

  const std::string& name() const { return name_; }  ///< the path, for messages
  const format::Header& header() const { return header_; }
  const std::optional<format::Integrity>& integrity() const { return integrity_; }
  const os::File& file() const { return file_; }
  std::uint64_t file_nbytes() const { return header_.header_nbytes + header_.data_nbytes; }

  std::uint64_t block_nbytes(std::uint64_t index) const;
  /// Reads block `index` into `out` (at least block_nbytes long) and, with
  /// `verify` and where there are checksums, checks it. Throws Error(corrupt)
  /// naming the file, the offset and the first entry in the block.
  void read_block(std::uint64_t index, std::span<std::byte> out, bool verify = true) const;
  /// Reads bytes from `begin` of the data section on, unverified. `handle`: this
  /// file's, or one that was reopened from it.
  void read(const os::File& handle, std::uint64_t begin, std::span<std::byte> out) const {
    handle.read_at(header_.header_nbytes + begin, out);
  }
  /// The check alone: `hash` is the XXH3-64 of what was read as block `index`.
  void check_block(std::uint64_t index, std::uint64_t hash) const;

 private:
  std::string name_;
  os::File file_;
  format::Header header_;
  std::optional<format::Integrity> integrity_;
};

/// A step's folder as it is found.
struct StepFolder {
  std::int64_t step = 0;
  std::filesystem::path path;
  std::optional<Manifest> manifest;
  std::string problem;  ///< why it is not complete; empty when it is
  /// What kind of problem: corrupt when it is damaged; unsupported, io and
  /// others when it could not be looked at.
  ErrorCode code = ErrorCode::corrupt;
  /// The folder itself, which stays the same one whatever a writer does to its
  /// name. Null in a list of steps, which may be longer than descriptors last.
  std::shared_ptr<const os::Directory> folder{};

  bool is_complete() const { return problem.empty(); }
};

/// Looks at one step's folder: manifest, its digest, sizes of the files. Reads
/// no data. Throws Error(not_found) when it is not there.
StepFolder look_at_step(const std::filesystem::path& step_path);

/// All step folders, ascending. Temporary and deleted ones are not steps.
/// Empty for an empty folder; Error(not_found) when there is no folder.
std::vector<StepFolder> look_at_steps(const std::filesystem::path& directory);

/// Opens a complete step's shard, in the folder that was looked at, and checks it
/// against the manifest (size, header digest). Throws Error(corrupt), or the
/// problem's code.
ShardReader open_step(const StepFolder& step);

}  // namespace understudy::store
