#include "survive/memory_folder.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "base/error.h"
#include "format/hash.h"
#include "os/memory_folder.h"
#include "store/commit.h"
#include "store/manifest.h"
#include "store/names.h"
#include "survive/survivors.h"
#include "understudy/options.h"

namespace understudy::survive {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kImage = "image";
constexpr std::string_view kImageMark = "-";
constexpr unsigned kOwnerOnly = 0700;

std::string user_name() {
  return fmt::format("understudy-{}", os::this_user());
}

std::string run_name(const os::Directory& run) {
  const auto identity = os::identity_of(run);
  return "run-" + format::hash128_hex(std::as_bytes(std::span(identity)));
}

os::Directory open_root(const fs::path& root) {
  auto directory = os::Directory::open(root);
  if (os::is_in_memory(directory)) return directory;
  fail(ErrorCode::invalid, "{} is no folder in memory: images survive in a tmpfs such as {}",
       root.native(), kMemoryFolder);
}

// What others could have put there, or could read, is nothing of ours.
os::Directory open_own(const os::Directory& parent, const std::string& name) {
  const auto found = parent.find(name);
  if (found && found->type != os::FileInfo::Type::directory) {
    fail(ErrorCode::invalid, "{} is no folder; images do not survive there", parent.path_of(name));
  }
  auto directory = parent.open_directory(name);
  const auto info = directory.info();
  if (info.owner != os::this_user() || (info.mode & 0077) != 0) {
    fail(ErrorCode::invalid,
         "{} is not this user's alone (owner {}, mode {:o}); images do not survive there",
         directory.name(), info.owner, info.mode);
  }
  return directory;
}

os::Directory open_or_make_own(const os::Directory& parent, const std::string& name) {
  if (!parent.exists(name)) {
    try {
      parent.make_directory(name, kOwnerOnly);
    } catch (const Error&) {
      if (!parent.exists(name)) throw;  // else another process has made it at this moment
    }
  }
  return open_own(parent, name);
}

bool has_its_path(const fs::path& path, const os::Directory& directory) {
  try {
    return os::Directory::open(path).info().is_same_file(directory.info());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return false;
  }
}

}  // namespace

// Never destroyed, and another one in a forked child: the mutex may be taken there for ever.
struct MemoryFolder::Registry {
  HomeProcess home;
  std::mutex mutex;
  std::map<fs::path, std::weak_ptr<MemoryFolder>> folders;
  Registry* inherited = nullptr;  ///< the parent's; kept, never used
};

MemoryFolder::Registry& MemoryFolder::registry() {
  static constinit std::atomic<Registry*> current = nullptr;
  for (;;) {
    Registry* seen = current.load(std::memory_order_acquire);
    if (seen != nullptr && seen->home.is_here()) return *seen;
    auto fresh = std::make_unique<Registry>();
    fresh->inherited = seen;
    if (current.compare_exchange_strong(seen, fresh.get())) return *fresh.release();
  }
}

fs::path memory_path(const fs::path& root, const os::Directory& run) {
  return root / user_name() / run_name(run);
}

std::optional<os::Directory> find_memory(const fs::path& root, const os::Directory& run) {
  const auto directory = open_root(root);
  if (!directory.exists(user_name())) return {};
  const auto own = open_own(directory, user_name());
  if (!own.exists(run_name(run))) return {};
  return open_own(own, run_name(run));
}

std::shared_ptr<MemoryFolder> MemoryFolder::open(const fs::path& root, const os::Directory& run) {
  auto& all = registry();
  const auto path = memory_path(root, run);
  const std::lock_guard guard(all.mutex);
  if (auto found = all.folders[path].lock()) return found;
  // Another process may remove it at its end, between our opening and our locking.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    std::shared_ptr<store::FolderLock> lock;
    try {
      const auto own = open_or_make_own(open_root(root), user_name());
      lock = store::lock_folder(open_or_make_own(own, run_name(run)));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_found || !fs::exists(root)) throw;
      continue;
    }
    if (!has_its_path(path, lock->directory())) continue;
    std::shared_ptr<MemoryFolder> made =
        HomePtr<MemoryFolder>(new MemoryFolder(path, std::move(lock)));
    made->clear_images();
    all.folders[path] = made;
    return made;
  }
  fail(ErrorCode::busy, "{} is removed by somebody as often as it is made", path.native());
}

MemoryFolder::MemoryFolder(fs::path path, std::shared_ptr<store::FolderLock> lock)
    : path_(std::move(path)), lock_(std::move(lock)) {}

MemoryFolder::~MemoryFolder() {
  auto& all = registry();
  const std::lock_guard guard(all.mutex);
  const auto found = all.folders.find(path_);
  if (found == all.folders.end() || !found->second.expired()) return;  // there is another one
  all.folders.erase(found);
  remove_if_empty();
}

void MemoryFolder::clear_images() const noexcept {
  try {
    for (const auto& name : directory().list()) {
      if (store::is_marked_name(name, kImage, kImageMark) || is_torn_holders(name)) {
        directory().remove_file(name);
      }
    }
  } catch (const std::exception&) {
    // The next run tries again.
  }
}

// The lock's file goes before the lock is given back.
void MemoryFolder::remove_if_empty() const noexcept {
  try {
    const auto& folder = directory();
    for (const auto& name : folder.list()) {
      std::int64_t step = 0;
      if (store::parse_step_name(name, step)) return;
    }
    const auto own = os::Directory::open(path_.parent_path());
    own.remove_tree(path_.filename());
    const auto root = os::Directory::open(path_.parent_path().parent_path());
    root.remove_folder(path_.parent_path().filename());  // fails while there are other runs
  } catch (const std::exception&) {
    // The next run finds it.
  }
}

memory::ImageFile MemoryFolder::make_file(std::uint64_t nbytes) {
  const auto name = store::marked_name(kImage, kImageMark);
  memory::ImageFile made{.file = std::move(*directory().create(name, false, 0600)), .name = name};
  made.owner = std::shared_ptr<const void>(this, [self = shared_from_this(), name](const void*) {
    try {
      self->directory().remove_file(name);
    } catch (const std::exception&) {
      // Somebody has tidied up.
    }
  });
  const auto free = os::room_in(directory());
  const auto fail_full = [&] {
    fail(ErrorCode::no_space,
         "an image of {} bytes does not fit into {}: {} bytes are free there, {} are missing",
         nbytes, directory().name(), free, nbytes - std::min(free, nbytes));
  };
  if (free < nbytes) fail_full();
  try {
    made.file.resize(nbytes);
    if (!made.file.reserve(nbytes)) {
      fail(ErrorCode::unsupported, "{} cannot reserve space", directory().name());
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::no_space) fail_full();
    throw;
  }
  return made;
}

}  // namespace understudy::survive
