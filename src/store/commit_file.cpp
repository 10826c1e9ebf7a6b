// The same care for one file: 1 to 3 beside it, then 6 and 7.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "os/lock.h"
#include "os/path.h"
#include "store/commit.h"
#include "store/names.h"

namespace understudy::store {

namespace {

// File systems take names of 255 bytes; the marks need 14.
constexpr std::size_t kMaxBaseNbytes = 240;

struct Target {
  os::Directory directory;
  std::string name;
  std::optional<os::FileInfo> existing;
};

[[noreturn]] void fail_exists(const std::filesystem::path& path) {
  fail(ErrorCode::invalid, "{} exists and is not replaced", path.native());
}

/// Where the file goes: at the end of `path`'s links, as a plain write would,
/// but when nothing may be replaced: then a link has the name.
Target find_target(const std::filesystem::path& path, Existing existing) {
  os::require_path(path);
  const auto end = existing == Existing::replace ? os::follow_links(path) : path;
  const std::string name = end.filename();
  if (name.empty() || name == "." || name == "..") {
    fail(ErrorCode::invalid, "\"{}\" is not the name of a file", path.native());
  }
  const auto parent = end.parent_path();
  Target target{os::Directory::open(parent.empty() ? "." : parent), name, {}};
  target.existing = target.directory.find(name);
  if (target.existing && existing == Existing::refuse) fail_exists(path);
  if (target.existing && target.existing->type == os::FileInfo::Type::directory) {
    fail(ErrorCode::invalid, "{} is a folder; a file cannot take its place", path.native());
  }
  if (target.existing && target.existing->type != os::FileInfo::Type::file) {
    fail(ErrorCode::invalid, "{} is not a plain file and is not replaced", path.native());
  }
  return target;
}

std::string base_of(const std::string& name) {
  std::size_t nbytes = std::min(name.size(), kMaxBaseNbytes);
  // Not in the middle of a character of UTF-8: some file systems refuse such a name.
  constexpr unsigned kContinues = 0x80, kMask = 0xC0;
  while (nbytes > 0 && nbytes < name.size() &&
         (static_cast<unsigned char>(name[nbytes]) & kMask) == kContinues) {
    --nbytes;
  }
  // Of bytes that are no text, there may be no end of a character.
  return "." + name.substr(0, nbytes > 0 ? nbytes : kMaxBaseNbytes);
}

/// Removes what dead writers of this file left. A living one holds a lock on
/// its file; where there are no locks, nothing can be told and all stay.
void clear_temporaries(const os::Directory& directory, const std::string& name) noexcept {
  try {
    for (const std::string& other : directory.list()) {
      if (!is_marked_name(other, base_of(name), kTemporary)) continue;
      const auto found = directory.find(other);
      if (!found || found->type != os::FileInfo::Type::file) continue;
      const os::File file = directory.open_file(other);
      if (os::lock_open_file(file) == os::FileLock::taken) directory.remove_file(other);
    }
  } catch (const std::exception&) {
    // Somebody else's clearing, or not ours to remove: no harm to this save.
  }
}

/// Another save of the same file took our temporary for a dead writer's.
struct Removed {};

/// Our temporary file, locked for as long as this lives, and removed with it
/// unless it was renamed.
class Temporary {
 public:
  Temporary(const os::Directory& directory, const std::string& name)
      : directory_(directory), name_(marked_name(base_of(name), kTemporary)) {}
  ~Temporary() {
    try {
      if (is_there_) directory_.remove_file(name_);
    } catch (const std::exception&) {
      // The next save of the same file clears it.
    }
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  const std::string& name() const noexcept { return name_; }

  void created(const os::File& file, const std::optional<os::FileInfo>& replaced) {
    is_there_ = true;
    file_ = file.duplicate();
    // Between its creation and now it had no lock.
    if (os::lock_open_file(file_) == os::FileLock::held || !has_its_name()) throw Removed{};
    if (replaced && replaced->mode != file_.info().mode) file_.set_mode(replaced->mode);
  }

  void rename_to(const std::string& target) {
    directory_.rename(name_, target);
    is_there_ = false;
  }

  /// False when the name is taken.
  bool rename_to_new(const std::string& target) {
    is_there_ = !directory_.rename_to_new(name_, target);
    return !is_there_;
  }

 private:
  bool has_its_name() const {
    const auto found = directory_.find(name_);
    return found && found->is_same_file(file_.info());
  }

  const os::Directory& directory_;
  const std::string name_;
  os::File file_;
  bool is_there_ = false;
};

/// Steps 1 to 7, or nothing when the temporary was removed under us.
std::optional<Written> try_commit(const Target& target, const std::filesystem::path& path,
                                  ShardSource& source, Writer& writer, Existing existing,
                                  std::atomic<std::uint64_t>* done) {
  Temporary temporary(target.directory, target.name);
  NewFile how;
  how.created = [&](const os::File& file) { temporary.created(file, target.existing); };
  // What replaces a file is at no moment open to more people than the file was;
  // its mode is set once it is ours.
  if (target.existing) how.mode = target.existing->mode & 0600;
  Written written;
  try {
    // 1. reserve, 2. write, 3. fsync.
    written = writer.write(target.directory, temporary.name(), source, done, how);
  } catch (const Removed&) {
    return {};
  }
  // 4. and 5. are a step's. 6. rename.
  if (existing == Existing::replace) {
    temporary.rename_to(target.name);
  } else if (!temporary.rename_to_new(target.name)) {
    fail_exists(path);
  }
  // 7. fsync of the parent.
  if (!target.directory.sync()) {
    written.writer += ", folder not synced (the file system cannot)";
  }
  return written;
}

}  // namespace

Written commit_file(const std::filesystem::path& path, ShardSource& source, Writer& writer,
                    Existing existing, std::atomic<std::uint64_t>* done) {
  const Target target = find_target(path, existing);
  clear_temporaries(target.directory, target.name);
  // Each turn lost is another save of this file that began just now.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (auto written = try_commit(target, path, source, writer, existing, done)) return *written;
  }
  fail(ErrorCode::busy, "{} is being saved by others at the same time", path.native());
}

}  // namespace understudy::store
