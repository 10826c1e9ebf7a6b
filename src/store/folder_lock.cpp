#include "store/folder_lock.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <utility>

#include "base/error.h"
#include "os/lock.h"
#include "os/system.h"
#include "store/commit.h"
#include "store/leftovers.h"
#include "store/names.h"

namespace understudy::store {

namespace {

// As much as os::LockFile::text gives.
constexpr std::uint64_t kMostOfHolder = 200;

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

/// ", rank 1 of 8" in a program of several processes, as launchers tell it.
std::string rank_of_this_process() {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    int value = -1;
    if (text) std::from_chars(text, text + std::strlen(text), value);
    return value;
  };
  const int rank = number("RANK"), count = number("WORLD_SIZE");
  return rank >= 0 && count > 1 ? fmt::format("rank {} of {}", rank, count) : std::string();
}

/// What the lock file says of who holds it: for people, and a line that no other holder has
/// written.
std::string this_holder() {
  const std::string rank = rank_of_this_process();
  std::random_device random;
  return fmt::format("process {} on {}{}{}\n{:08x}{:08x}\n", getpid(), os::host_name(),
                     rank.empty() ? "" : ", ", rank, random(), random());
}

/// The same, as a part of a sentence. Anybody may write to the file.
std::string holder_named_by(const os::LockFile& file, pid_t holder) {
  std::string text = file.text();
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(" ,.-_").find(c) != std::string_view::npos;
  };
  const auto end = text.find('\n');
  if (text.starts_with("process ") && end != std::string::npos) {
    text.resize(end);
    if (std::ranges::all_of(text, is_plain)) return text;
  }
  return holder > 0 ? fmt::format("process {}", holder) : "another process";
}

void require_lock(const os::Directory& directory, os::LockFile& file) {
  const auto holder = file.lock();
  if (!holder) return;
  const std::string rank = rank_of_this_process();
  fail(ErrorCode::busy, "{} is being written by {}; one process at a time may save there{}",
       directory.name(), holder_named_by(file, *holder),
       rank.empty() ? "" : fmt::format(", and this is {}: have one rank save", rank));
}

bool has_its_name(const os::Directory& directory, const os::LockFile& file) {
  const auto found = directory.find(std::string(kLockName));
  return found && found->is_same_file(file.info());
}

/// Locks the file that has the lock's name now. What is held may be an older one.
void hold(HeldFolder& held, const TakeOver& take_over = {}) {
  const std::string name(kLockName);
  // A lock file that is removed again and again while we lock it is not chance.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (!held.lock_file || !has_its_name(held.directory, *held.lock_file)) {
      held.lock_file.reset();
      held.lock_file = std::make_unique<os::LockFile>(held.directory, name);
    }
    require_lock(held.directory, *held.lock_file);
    if (!has_its_name(held.directory, *held.lock_file)) continue;
    if (held.holder.empty() || held.lock_file->text() != held.holder) {
      // New, or another's since: whoever that was may have left something.
      held.needs_clearing = true;
      auto holder = this_holder();
      if (take_over) take_over(held.lock_file->text(), holder);
      held.holder = std::move(holder);
      if (!held.lock_file->set_text(held.holder)) held.holder.clear();
    }
    return;
  }
  fail(ErrorCode::busy, "{}/{} is removed by somebody as often as it is locked",
       held.directory.name(), name);
}

HeldFolder& take(Registry& registry, os::Directory directory, const TakeOver& take_over) {
  const std::lock_guard guard(registry.mutex);
  const FolderId id = id_of(directory);
  auto found = registry.folders.find(id);
  if (found == registry.folders.end()) {
    found = registry.folders.try_emplace(id, std::move(directory)).first;
    try {
      hold(found->second, take_over);
    } catch (...) {
      registry.folders.erase(found);
      throw;
    }
  }
  ++found->second.holders;
  return found->second;
}

std::set<std::string> names_in_use(HeldFolder& held) {
  const std::lock_guard guard(held.in_use_mutex);
  std::set<std::string> names;
  for (const auto& [name, user] : held.in_use) names.insert(name);
  return names;
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
  // Somebody may have removed the lock file, or a server forgotten the lock.
  hold(held_);
  if (held_.needs_clearing) {
    held_.uncleared = clear_leftovers(held_.directory, names_in_use(held_));
    held_.needs_clearing = held_.uncleared.count > 0;
  }
  return turn;
}

std::string FolderLock::holder() const {
  const std::lock_guard turn(held_.committing);
  return held_.holder;
}

std::string last_holder(const os::Directory& directory) {
  try {
    const auto file = directory.open_file(std::string(kLockName));
    std::string text(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kMostOfHolder)),
                     '\0');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    return text;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found || error.code() == ErrorCode::corrupt) return {};
    throw;
  }
}

std::uint64_t FolderLock::keep(const std::string& name) {
  const std::lock_guard guard(held_.in_use_mutex);
  return held_.in_use[name] = held_.next_user++;
}

bool FolderLock::has(const std::string& name, std::uint64_t user) const noexcept {
  const std::lock_guard guard(held_.in_use_mutex);
  const auto found = held_.in_use.find(name);
  return found != held_.in_use.end() && found->second == user;
}

void FolderLock::clear_leftovers_of(const std::string& name) {
  store::clear_leftovers_of(held_.directory, name, names_in_use(held_));
}

void FolderLock::let_go(const std::string& name, std::uint64_t user) noexcept {
  if (!home_.is_here() || !has(name, user)) return;
  const std::lock_guard guard(held_.in_use_mutex);
  held_.in_use.erase(name);
}

void FolderLock::require_held() const {
  std::string why;
  if (!has_its_name(held_.directory, *held_.lock_file)) {
    why = "its file was removed or replaced";
  } else if (const auto holder = held_.lock_file->lock()) {
    why = holder_named_by(*held_.lock_file, *holder) + " has it";
  } else if (held_.lock_file->text() != held_.holder) {
    why = "another process had it meanwhile";
  }
  if (why.empty()) return;
  fail(ErrorCode::busy,
       "{} lost its lock during a save: {}; what was being saved may have been cleared, and does "
       "not count as saved",
       held_.directory.name(), why);
}

std::shared_ptr<FolderLock> lock_folder(const std::filesystem::path& directory) {
  return lock_folder(os::Directory::open(directory));
}

std::shared_ptr<FolderLock> lock_folder(os::Directory directory, const TakeOver& take_over) {
  auto lock = std::make_shared<FolderLock>(take(registry(), std::move(directory), take_over));
  lock->begin_commit();
  return lock;
}

}  // namespace understudy::store
