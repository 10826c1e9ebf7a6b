// What operators need: list, look, verify, compare, export, examine the machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "understudy/value.h"

namespace understudy {

/// Whether it is none, a number, text or bytes, of any kind and length: neither a container nor a
/// tensor nor an object.
inline bool is_simple(const Value& value) noexcept {
  return value.type() <= Value::Type::bytes;
}

/// One step's folder as a listing shows it. Reads manifests and sizes only.
struct StepInfo {
  std::int64_t step = 0;       ///< its number
  std::filesystem::path path;  ///< its folder
  bool is_complete = false;    ///< its name, manifest and sizes are right
  std::string problem;         ///< why it is not complete
  std::uint64_t nbytes = 0;    ///< of all files in the folder
  std::string time;            ///< UTC, ISO 8601, from the manifest
};

/// All step folders of a run, ascending, complete or not, and nothing else.
/// Throws Error(not_found) when there is no such folder.
std::vector<StepInfo> list_steps(const std::filesystem::path& directory);

/// One entry of a safetensors header.
struct EntryInfo {
  std::string name;                  ///< as in the file
  std::string dtype;                 ///< as in the file: "F32"
  std::vector<std::uint64_t> shape;  ///< in elements, outermost first
  std::uint64_t nbytes = 0;          ///< of its data
  std::uint64_t offset = 0;          ///< of the first byte in the file
  std::string file;                  ///< name of the file, in the step's folder
};

/// A part of a tensor that several ranks have saved.
struct ChunkInfo {
  std::string file;   ///< name of the shard that it lies in
  std::string entry;  ///< its entry there
  Dims offsets;       ///< of its first element in the tensor
  Dims sizes;         ///< in elements, outermost first
};

/// One tensor of the state, as the tree has it.
struct TensorInfo {
  std::string path;          ///< keys joined by '.'
  std::string dtype;         ///< PyTorch's name: "float32"
  Dims shape;                ///< in elements, outermost first
  Dims strides;              ///< in elements
  std::uint64_t nbytes = 0;  ///< of a dense copy
  std::string entry;         ///< the entry it lies in; empty when it is cut
  std::string file;          ///< name of that entry's file; empty when it is cut
  bool is_shared = false;    ///< another tensor uses the same entry, or shared its memory
  std::optional<std::uint32_t>
      run;                        ///< of memory, which tensors of a file with the same one shared
  std::vector<ChunkInfo> chunks;  ///< what it is cut into; empty when it lies in one entry
};

/// What a safetensors file holds, or a step of several.
struct Description {
  std::filesystem::path file;        ///< the safetensors file; of several the step's folder
  std::uint64_t file_nbytes = 0;     ///< its size; of several the sum
  std::size_t shards = 1;            ///< number of safetensors files
  bool is_ours = false;              ///< Understudy wrote it: tree and checksums are there
  std::optional<std::int64_t> step;  ///< of a step's file
  Value metadata;  ///< user metadata: of the manifest for a step, of the header for a file
  std::vector<EntryInfo> entries;   ///< in the order of the files and of their bytes
  std::vector<TensorInfo> tensors;  ///< in the order of the tree
  /// The tree with tensors over no memory (never read their bytes).
  Value tree;
};

/// Looks into `path`: a step's folder, a run's folder (its newest step) or a
/// safetensors file of anyone's. One description, of whole tensors however many ranks have saved
/// them. Reads the headers, and long texts, bytes and lists of
/// numbers up to 64 MiB of them; those beyond are opaque leaves in the tree that say
/// what they are.
std::vector<Description> describe(const std::filesystem::path& path);

/// One damaged place.
struct Damage {
  std::filesystem::path file;  ///< the damaged file
  std::uint64_t offset = 0;    ///< first byte in doubt
  std::string what;            ///< one sentence
};

/// What `verify` found.
struct VerifyReport {
  std::filesystem::path path;  ///< what was verified, resolved
  std::uint64_t nbytes = 0;    ///< bytes read
  bool has_checksums = true;   ///< false for files of others: only structure was checked
  std::vector<Damage> damage;  ///< every place that was found
  /// No damage was found.
  bool is_whole() const noexcept { return damage.empty(); }
};

/// Called now and then with bytes done and bytes in all; from any thread, one
/// call at a time.
using Progress = void (*)(void* context, std::uint64_t done, std::uint64_t total);

/// Reads every byte of `path` (resolved as in `describe`). Damage is in the
/// report; not being able to look is an Error.
VerifyReport verify(const std::filesystem::path& path, Progress progress = nullptr,
                    void* context = nullptr);

/// One difference of two states.
struct Difference {
  std::string path;  ///< in the tree
  std::string what;  ///< one sentence
};

/// Compares two states by value: trees, scalars, tensors bit for bit.
std::vector<Difference> diff(const std::filesystem::path& a, const std::filesystem::path& b);

/// How `export_state` writes.
struct ExportOptions {
  /// Write a Hugging Face folder (model.safetensors, or numbered shards with
  /// an index) instead of one file.
  bool hugging_face = false;
  std::uint64_t max_shard_nbytes = 5'000'000'000;  ///< Hugging Face's own default
  std::string prefix{};  ///< only what lies below, with the prefix taken off the names
};

/// What an export wrote.
/// What `export_state` wrote.
struct ExportReport {
  std::vector<std::filesystem::path> files;  ///< safetensors files, the index not among them
  std::uint64_t nbytes = 0;                  ///< of the tensors
  std::uint64_t tensors = 0;                 ///< entries written
  std::uint64_t tied = 0;      ///< tensors that are one with another and became its second name
  std::uint64_t left_out = 0;  ///< scalars, texts and the like, which a plain file cannot hold
};

/// Writes the tensors of `path` as a plain safetensors file: one dense entry a
/// tensor, no tree. Every byte is verified on the way where there are
/// checksums. Throws Error(invalid) when `out` exists, or when two tensors
/// would have one name; Error(unsupported) for a dtype that safetensors lacks.
ExportReport export_state(const std::filesystem::path& path, const std::filesystem::path& out,
                          const ExportOptions& options = {});

/// One thing that the machine offers or not.
struct Probe {
  std::string name;           ///< "huge pages"
  bool is_available = false;  ///< the machine has it, and this process may use it
  std::string detail;         ///< what was found
  std::string cost;           ///< what it costs not to have it
  std::string remedy;         ///< the command that turns it on; empty when there is none
};

/// Probes the machine, and direct I/O in `directory`.
std::vector<Probe> doctor(const std::filesystem::path& directory);

}  // namespace understudy
