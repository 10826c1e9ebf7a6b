// The commit protocol (docs/commit.md): a step is there whole, or not at all.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "os/file.h"
#include "store/manifest.h"
#include "store/writer.h"
#include "understudy/options.h"

namespace understudy::store {

/// The right to write a folder of steps. The process holds an fcntl lock on
/// `.understudy.lock` in it; within the process all holders share one object
/// and commit one at a time.
class FolderLock;

/// Takes the lock, and clears what dead writers left (temporary step folders,
/// files; orphans of an interrupted overwrite are put back). Throws Error(busy)
/// naming the holder's process when another process has it.
std::shared_ptr<FolderLock> lock_folder(const std::filesystem::path& directory);
/// `take_over` is called when this process takes the lock, and has not had it: with what the file
/// says of the last holder, before it is overwritten with what it will say of this one. When it
/// throws, the lock is not taken.
using TakeOver = std::function<void(const std::string& before, const std::string& now)>;
std::shared_ptr<FolderLock> lock_folder(os::Directory directory, const TakeOver& take_over = {});

struct CommitOptions {
  bool overwrite = false;
  std::optional<Keep> keep;  ///< retention, after the commit
};

/// A step that is durable.
struct Committed {
  std::filesystem::path path;  ///< the step's folder
  std::string writer;
  /// When it became so; what retention takes comes later.
  std::chrono::steady_clock::time_point durable_at{};
  /// What retention and clearing could not remove, and why; empty when nothing is left.
  std::string unremoved;
};

/// Commits one step: steps 1 to 8 of the protocol. When it returns the step is
/// durable. Throws Error(invalid) when the step exists and overwrite is false.
/// A failure leaves the earlier steps whole and clears its own leftovers.
Committed commit_step(FolderLock& lock, std::int64_t step, ShardSource& source,
                      const std::string& metadata_json, Writer& writer,
                      const CommitOptions& options, std::atomic<std::uint64_t>* done = nullptr);

/// The name of a rank's shard: "shard-00000-of-00001.safetensors".
std::string shard_name(int rank, int count);

/// What Committed::writer says then.
inline constexpr std::string_view kFoldersNotSynced =
    ", folders not synced (the file system cannot)";

/// Throws Error(invalid) when `step` exists (or is negative): what save checks
/// at once.
void require_new_step(const os::Directory& directory, std::int64_t step);

enum class Existing { replace, refuse };

/// Writes one file with the same care: temporary beside it, fsync, rename,
/// fsync of the parent. Replaces atomically; or, with `refuse`, throws
/// Error(invalid) for a name that is taken at any moment until then.
Written commit_file(const std::filesystem::path& path, ShardSource& source, Writer& writer,
                    Existing existing = Existing::replace,
                    std::atomic<std::uint64_t>* done = nullptr);

}  // namespace understudy::store
