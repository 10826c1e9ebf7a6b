#include "store/folder_lock.h"

#include <atomic>
#include <map>
#include <utility>

#include "base/error.h"
#include "os/lock.h"
#include "store/commit.h"
#include "store/leftovers.h"
#include "store/names.h"

namespace understudy::store {

namespace {

using FolderId = std::pair<dev_t, ino_t>;

/// The folders that this process holds. Never destroyed; a forked child begins
/// with one of its own, because the mutex of the parent's may be taken for ever.
struct Registry {
  HomeProcess home;
  std::mutex mutex;
  std::map<FolderId, HeldFolder> folders;
  Registry* inherited = nullptr;  ///< the parent's; kept, never used
};

constinit std::atomic<Registry*> current = nullptr;

Registry& registry() {
  for (;;) {
    Registry* seen = current.load(std::memory_order_acquire);
    if (seen && seen->home.is_here()) return *seen;
    auto fresh = std::make_unique<Registry>();
    fresh->inherited = seen;
    if (current.compare_exchange_strong(seen, fresh.get())) return *fresh.release();
  }
}

FolderId id_of(const os::Directory& directory) {
  const os::FileInfo info = directory.info();
  return {info.device, info.number};
}

void require_lock(const os::Directory& directory, const os::File& file) {
  const auto holder = os::lock_for_process(file);
  if (!holder) return;
  fail(ErrorCode::busy, "{} is being written by {}; one process at a time may save there",
       directory.name(),
       *holder > 0 ? fmt::format("process {}", *holder) : std::string("another process"));
}

/// Locks the file that has the lock's name now. `file` may be an older one.
void hold(const os::Directory& directory, os::File& file) {
  const std::string name(kLockName);
  // A lock file that is removed again and again while we lock it is not chance.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    const auto found = directory.find(name);
    if (!file.is_open() || !found || !found->is_same_file(file.info())) {
      file = os::open_lock_file(directory, name);
    }
    require_lock(directory, file);
    const auto now = directory.find(name);
    if (now && now->is_same_file(file.info())) return;
  }
  fail(ErrorCode::busy, "{}/{} is removed by somebody as often as it is locked", directory.name(),
       name);
}

HeldFolder& take(Registry& registry, os::Directory directory) {
  const std::lock_guard guard(registry.mutex);
  const FolderId id = id_of(directory);
  auto found = registry.folders.find(id);
  if (found == registry.folders.end()) {
    os::File file;
    hold(directory, file);
    found = registry.folders.try_emplace(id, std::move(directory), std::move(file)).first;
  }
  ++found->second.holders;
  return found->second;
}

}  // namespace

FolderLock::~FolderLock() {
  if (!home_.is_here()) return;
  Registry& mine = registry();
  const std::lock_guard guard(mine.mutex);
  // Closing the file is what gives the lock back, so it is done under the
  // mutex: else it could end the lock of a holder who comes at this moment.
  if (--held_.holders == 0) {
    std::erase_if(mine.folders, [&](const auto& item) { return &item.second == &held_; });
  }
}

std::unique_lock<std::mutex> FolderLock::begin_commit() {
  home_.require("the lock of " + held_.directory.name());
  std::unique_lock turn(held_.committing);
  // The lock goes when anybody in this process closes the lock file (a copy of
  // the folder does); taking it again tells.
  hold(held_.directory, held_.lock_file);
  if (held_.needs_clearing) held_.needs_clearing = !clear_leftovers(held_.directory);
  return turn;
}

std::shared_ptr<FolderLock> lock_folder(const std::filesystem::path& directory) {
  return lock_folder(os::Directory::open(directory));
}

std::shared_ptr<FolderLock> lock_folder(os::Directory directory) {
  auto lock = std::make_shared<FolderLock>(take(registry(), std::move(directory)));
  lock->begin_commit();
  return lock;
}

}  // namespace understudy::store
