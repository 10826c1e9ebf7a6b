// Sealed steps in memory: who may take them, and how they come and go. Each is a folder like any
// step's, whose shard is an image; docs/survival.md explains it by numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "os/file.h"
#include "store/folder_lock.h"
#include "store/manifest.h"

namespace understudy::survive {

/// What a survivor must be of, to be resumed from.
struct World {
  std::string run;   ///< os::identity_of its folder
  std::string boot;  ///< os::boot_id
  unsigned user = 0;
  int rank = 0;
  int ranks = 1;

  static World of(const os::Directory& run);
};

/// A step that lies in memory.
struct Survivor {
  std::int64_t step = 0;
  std::filesystem::path path;
  std::uint64_t nbytes = 0;
  std::string time;  ///< when it was sealed
  int ranks = 1;
  std::string
      problem;  ///< why it cannot be resumed from; empty when it can, if its bytes are whole
};

/// All, the newest first. Looks at manifests and sizes; the bytes are verified by who reads them.
std::vector<Survivor> look_at(const os::Directory& memory, const World& world);

/// Says who has written to the run since, in words; empty when nobody has but those whose
/// survivors these are. `holder` is what the lock file in the run's folder said of its last holder.
std::string continued_by(const os::Directory& memory, const std::string& holder);
/// The survivors are from now on those of these two; the texts as in the lock file.
void set_holders(const os::Directory& memory, const std::string& before, const std::string& now);
/// Left by a process that died while it wrote that.
bool is_torn_holders(std::string_view name);

/// An image whose header is written and whose file has its length.
struct SealedImage {
  std::int64_t step = 0;
  std::string file;  ///< its name in the folder
  std::uint64_t nbytes = 0;
  std::string digest;
  std::string metadata_json;
};

/// Gives it the name of its step, at once; a step of that number is replaced.
void seal(store::FolderLock& memory, const SealedImage& image, const World& world);
/// Removes steps: each is no step any more before its files go. Those for which `keeps` is false.
void remove_steps(store::FolderLock& memory, const std::function<bool(std::int64_t step)>& keeps);

}  // namespace understudy::survive
