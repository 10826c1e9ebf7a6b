// One state, one safetensors file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "understudy/options.h"
#include "understudy/value.h"

namespace understudy {

/// How a file is written.
struct SaveFileOptions {
  FileMetadata metadata{};                        ///< texts, kept in the header
  int threads = 0;                                ///< 0: chosen by the writer
  WriterChoice writer = WriterChoice::automatic;  ///< who writes; see WriterChoice
};

/// Writes `state` to one safetensors file, replacing it atomically. Streams:
/// needs a few MiB beside the state. Durable when it returns. No thread may
/// write the state while it runs. The file appears whole or not at all.
void save_file(const Value& state, const std::filesystem::path& path,
               const SaveFileOptions& options = {});

/// What of a file is read, and how.
struct LoadFileOptions {
  /// Exact names or prefixes ("model" takes "model.weight" too); empty: all.
  /// A name that matches nothing is Error(not_found).
  std::vector<std::string> names{};
  /// Tensors over a private copy-on-write mapping of the file, which must stay as
  /// it is while they live: whoever touches a part that was cut off ends by a signal.
  bool mmap = false;
  bool verify = true;         ///< check the checksums of what is read, where the file has them
  bool allow_pickle = false;  ///< else a file that carries pickled objects is Error(unsupported)
  int threads = 0;            ///< reading threads; 0: chosen by the reader
};

/// The state of a file. With aliasing and containers when Understudy wrote it;
/// a flat dict for anybody else's safetensors file. With `names`, dicts keep
/// only what was named, and containers other than dicts are taken whole; only
/// the blocks of checksums (4 MiB) that they touch are read, or without verifying
/// only their bytes. A file that is cut meanwhile is Error(corrupt).
Value load_file(const std::filesystem::path& path, const LoadFileOptions& options = {});

}  // namespace understudy
