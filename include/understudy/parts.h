// Steps in parts: for frameworks that plan by themselves who writes what and who reads what, and
// that carry messages between processes by themselves. Everybody else wants a Checkpointer.
//
// A state is a dict here whose leaves have names. One process (the coordinator) makes a
// StepInParts; then each writes what it was given with a PartWriter; then the coordinator commits
// what all have reported. Nobody sees the step before.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "understudy/files.h"
#include "understudy/options.h"
#include "understudy/value.h"

namespace understudy {

/// The way to a leaf in the nested state: keys of dicts, and indices of lists.
using LeafPath = std::vector<std::variant<std::string, std::int64_t>>;

/// Names of leaves and where these lie in the nested state, in its order. A leaf without a path
/// lies under its name at the top.
using LeafPaths = std::vector<std::pair<std::string, LeafPath>>;

/// A step on its way in, seen from the coordinator. What is not committed vanishes with it. Calls
/// may come from any thread, one at a time.
class StepInParts {
 public:
  /// Makes the temporary folder of the step whose folder will be `path`. `mark` is eight hex digits
  /// that all processes know. The parent's lock is held until the step is committed or given up.
  /// Throws Error(invalid) when something has the path, unless that is an empty folder or
  /// `overwrite` is true; Error(busy) when another process saves in the parent folder. An earlier
  /// one of this process with the same path and mark has lost its place.
  StepInParts(const std::filesystem::path& path, const std::string& mark, bool overwrite);
  ~StepInParts();
  StepInParts(StepInParts&&) noexcept;
  StepInParts& operator=(StepInParts&&) noexcept;

  /// Makes of `reports`, which are what PartWriter::write gave to all processes, one step, durably;
  /// or nothing. `metadata` as in SaveOptions. Throws Error(invalid) when the parts do not make up
  /// every tensor.
  std::filesystem::path commit(std::span<const std::string> reports, const LeafPaths& paths,
                               const Value& metadata = {});
  /// Removes what there is of it.
  void abandon() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// How parts are written.
struct PartWriterOptions {
  int threads = 0;                                ///< 0: chosen by the writer
  WriterChoice writer = WriterChoice::automatic;  ///< who writes; see WriterChoice
  std::optional<std::uint64_t> max_write_rate{};  ///< bytes a second, 1 MiB or more
};

/// Which file a part is.
struct PartPlace {
  std::filesystem::path path;  ///< of the step's folder
  std::string mark;            ///< as for StepInParts
  int rank = 0;                ///< of the process that writes it
  int count = 1;               ///< of processes
  int file = 0;                ///< of this process's files, from 0: one has a name once at most
  bool is_only = true;         ///< this process has no other file
};

/// Writes parts. Keeps its threads between calls; one call at a time.
class PartWriter {
 public:
  /// Throws Error(invalid) for options that make no sense.
  explicit PartWriter(const PartWriterOptions& options = {});
  ~PartWriter();
  PartWriter(PartWriter&&) noexcept;
  PartWriter& operator=(PartWriter&&) noexcept;

  /// Writes `leaves`, a dict of names whose values are chunks (chunk.h) or any others, as one file,
  /// durably. Gives the report for StepInParts::commit. When it throws, the file is gone. With one
  /// process and whole leaves the file is that of a Checkpointer.
  std::string write(const PartPlace& place, const Value& leaves, const LeafPaths& paths);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A box of a tensor.
struct Box {
  Dims offsets;  ///< where it begins
  Dims sizes;    ///< how far it goes
};

/// A leaf of a step.
struct StoredLeaf {
  std::string name;         ///< its path, joined by '.'
  LeafPath path;            ///< in the nested state
  bool is_tensor = false;   ///< else a value
  DType dtype = DType::u8;  ///< of a tensor
  Dims shape{};             ///< of a tensor
};

/// What goes where.
struct BoxRead {
  std::string name;  ///< of a tensor
  Dims offsets;      ///< of the box; its sizes are those of `to`
  Tensor to;         ///< of the stored type, with any strides
};

/// Reads parts of a step of any number of processes. One call at a time.
class PartReader {
 public:
  /// Reads the manifest and the index, or the header of the only shard. Throws Error(corrupt) when
  /// chunks do not make up every tensor, or as load_file does.
  explicit PartReader(const std::filesystem::path& path, const LoadFileOptions& options = {});
  ~PartReader();
  PartReader(PartReader&&) noexcept;
  PartReader& operator=(PartReader&&) noexcept;

  /// The leaves of the nested state as torch.distributed.checkpoint flattens it: dicts are taken
  /// apart, and lists with a tensor, a dict or a list in them.
  const std::vector<StoredLeaf>& leaves() const;
  /// How a tensor is cut.
  std::vector<Box> chunks(const std::string& name) const;
  /// True for a leaf, and for a container above one.
  bool has(const std::string& name) const;
  /// All that lies there. Throws Error(unsupported) for a pickle without allow_pickle.
  Value value(const std::string& name);
  /// Reads boxes, verified, each shard once. Throws Error(corrupt), Error(io): then anything may
  /// have been written to the tensors.
  void read(std::span<const BoxRead> boxes);
  /// As Checkpoint::metadata.
  Value metadata() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy
