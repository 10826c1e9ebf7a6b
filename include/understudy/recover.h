// What survived in memory of a run whose process has ended.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "understudy/options.h"

namespace understudy {

/// A captured step that lies in memory.
struct SurvivorInfo {
  std::int64_t step = 0;       ///< its number
  std::filesystem::path path;  ///< its folder in memory, which every reader takes as a step's
  std::uint64_t nbytes = 0;    ///< of its file
  std::string time;            ///< when it was sealed: UTC, ISO 8601
  int ranks = 1;               ///< of the program that it is of
  std::string problem;         ///< why it cannot be used; empty when it can
  bool is_on_disk = false;     ///< the run's folder has a complete step of that number

  /// Whether it can be used.
  bool is_whole() const noexcept { return problem.empty(); }
};

/// What of the run in `directory` lies in `memory`, the newest first; also while its process lives.
/// With `verify`, every byte is read. Throws Error(not_found) when there is no such folder.
std::vector<SurvivorInfo> list_survivors(const std::filesystem::path& directory,
                                         const std::filesystem::path& memory = kMemoryFolder,
                                         bool verify = true);

/// What `recover` does.
struct RecoverOptions {
  std::filesystem::path memory = kMemoryFolder;  ///< as in Survive
  bool discard = false;                          ///< write nothing: only remove what there is
};

/// What `recover` did.
struct RecoverReport {
  std::vector<SurvivorInfo> survivors;  ///< what there was, the newest first
  std::vector<std::int64_t> written;    ///< steps that are on the disk now and were not
  std::vector<std::int64_t> removed;    ///< steps that are in memory no more
};

/// Writes what survived to the run's folder, durably, and then removes it from memory; so it does
/// with what is on the disk already. What cannot be used stays, unless it is discarded. Throws
/// Error(busy) while the run's process lives.
RecoverReport recover(const std::filesystem::path& directory, const RecoverOptions& options = {});

}  // namespace understudy
