// The commit protocol. docs/commit.md explains each number and what a crash
// after it leaves.
#include "store/commit.h"

#include <fmt/chrono.h>

#include <chrono>
#include <utility>

#include "base/error.h"
#include "store/folder_lock.h"
#include "store/leftovers.h"
#include "store/names.h"
#include "store/retention.h"

namespace understudy::store {

namespace {

std::string utc_now() {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

void require_step_number(std::int64_t step) {
  if (step < 0) fail(ErrorCode::invalid, "step {} cannot be saved: steps begin at 0", step);
}

[[noreturn]] void fail_exists(const os::Directory& directory, std::int64_t step) {
  fail(ErrorCode::invalid, "step {} is there already: {}/{}; only with overwrite is it replaced",
       step, directory.name(), step_name(step));
}

void require_absent(const os::Directory& directory, std::int64_t step) {
  if (directory.exists(step_name(step))) fail_exists(directory, step);
}

void write_small_file(const os::Directory& directory, const std::string& name,
                      const std::string& text) {
  os::File file = std::move(*directory.create(name));
  file.write_at(0, std::as_bytes(std::span(text)));
  file.sync();
  file.close();
}

/// Somebody may have tidied up while the step was written.
void require_intact(const os::Directory& folder, const Manifest& manifest) {
  const auto require = [&](const std::string& name, std::uint64_t nbytes) {
    const auto found = folder.find(name);
    if (found && found->nbytes >= nbytes) return;
    fail(ErrorCode::io, "{}/{} was {} while the step was being saved", folder.name(), name,
         found ? "cut" : "removed");
  };
  for (const ManifestFile& file : manifest.files) require(file.name, file.nbytes);
  require(std::string(kManifestName), 1);
}

/// One step on its way into the folder. What goes wrong before step 7 is done
/// is undone, so that a failed save has not happened.
class Attempt {
 public:
  Attempt(const os::Directory& directory, std::int64_t step)
      : directory_(directory),
        step_(step),
        name_(step_name(step)),
        temporary_(marked_name(name_, kTemporary)),
        aside_(marked_name(name_, kSetAside)),
        successor_(marked_name(name_, kSuccessor)) {}

  os::Directory make_temporary() const {
    // What replaces a step is at no moment open to more people than the step was.
    const auto replaced = directory_.find(name_);
    const unsigned mode = replaced ? (replaced->mode & 0777) | 0700 : 0777;
    return directory_.make_directory(temporary_, mode);
  }

  /// Step 6.
  void put_in_place(bool may_replace) {
    if (may_replace && directory_.exists(name_)) return replace();
    if (directory_.rename_to_new(temporary_, name_)) {
      place_ = Place::renamed;
    } else if (may_replace) {
      replace();  // it appeared just now
    } else {
      fail_exists(directory_, step_);
    }
  }

  /// Removes the step that was replaced.
  Unremoved remove_replaced() const noexcept {
    Unremoved failures;
    if (place_ == Place::exchanged) try_remove_tree(directory_, temporary_, &failures);
    if (place_ == Place::both_renamed) try_remove_tree(directory_, aside_, &failures);
    return failures;
  }

  /// Takes the steps back, the last first. True when nothing is left behind.
  bool undo() noexcept {
    try {
      switch (place_) {
        case Place::nowhere: return try_remove_tree(directory_, temporary_);
        case Place::renamed: directory_.rename(name_, temporary_); break;
        case Place::exchanged: directory_.exchange(name_, temporary_); break;
        case Place::both_renamed: directory_.rename(name_, temporary_); [[fallthrough]];
        case Place::old_is_aside: directory_.rename(aside_, name_); break;
        case Place::successor: directory_.rename(successor_, temporary_); break;
        case Place::old_is_removed: break;
      }
    } catch (const std::exception&) {
      // Both steps are whole under some name; the next clearing sorts them out.
    }
    // Which names are on disk is not known: the next clearing syncs them
    // before it removes anything.
    return false;
  }

 private:
  enum class Place {
    nowhere,
    renamed,
    exchanged,
    old_is_aside,
    both_renamed,
    successor,
    old_is_removed  ///< no way back: the next clearing completes it
  };

  void replace() {
    if (directory_.exchange(temporary_, name_)) {
      place_ = Place::exchanged;
    } else if (directory_.try_rename(name_, aside_)) {
      place_ = Place::old_is_aside;
      directory_.rename(temporary_, name_);
      place_ = Place::both_renamed;
    } else {
      replace_by_removal();
    }
  }

  /// For a step that cannot be renamed. The new one is whole and on disk under
  /// the name of a successor before the old one goes.
  void replace_by_removal() {
    directory_.rename(temporary_, successor_);
    place_ = Place::successor;
    directory_.sync();
    place_ = Place::old_is_removed;
    directory_.remove_tree(name_);
    directory_.rename(successor_, name_);
  }

  const os::Directory& directory_;
  const std::int64_t step_;
  const std::string name_;
  const std::string temporary_;
  const std::string aside_;
  const std::string successor_;
  Place place_ = Place::nowhere;
};

}  // namespace

void require_new_step(const os::Directory& directory, std::int64_t step) {
  require_step_number(step);
  require_absent(directory, step);
}

Committed commit_step(FolderLock& lock, std::int64_t step, ShardSource& source,
                      const std::string& metadata_json, Writer& writer,
                      const CommitOptions& options, std::atomic<std::uint64_t>* done) {
  require_step_number(step);
  const auto turn = lock.begin_commit();
  const os::Directory& directory = lock.directory();
  if (!options.overwrite) require_absent(directory, step);

  const std::string shard = "shard-00000-of-00001.safetensors";
  Attempt attempt(directory, step);
  Written written;
  try {
    const os::Directory folder = attempt.make_temporary();
    // 1. reserve, 2. write, 3. fsync: the shard.
    written = writer.write(folder, shard, source, done);
    // 4. The manifest, and fsync.
    Manifest manifest;
    manifest.step = step;
    manifest.time = utc_now();
    manifest.files = {{shard, written.nbytes, written.digest}};
    manifest.metadata_json = metadata_json;
    write_small_file(folder, std::string(kManifestName), write_manifest(manifest));
    // 5. fsync of the folder.
    const bool has_folder_sync = folder.sync();
    // 6. rename, if all is still there and still ours.
    require_intact(folder, manifest);
    lock.require_held();
    attempt.put_in_place(options.overwrite);
    // 7. fsync of the parent.
    if (!directory.sync() || !has_folder_sync) {
      written.writer += ", folders not synced (the file system cannot)";
    }
    lock.require_held();
  } catch (...) {
    if (!attempt.undo()) lock.need_clearing();
    // Files that vanish are only the symptom when another cleared the folder.
    lock.require_held();
    throw;
  }
  // 8. Retention. The step is durable: what fails from here on is left for the
  // next commit to clear.
  Unremoved failures = attempt.remove_replaced();
  if (options.keep) failures.add(apply_retention(directory, *options.keep, step));
  if (failures.count > 0) lock.need_clearing();
  failures.add(lock.uncleared());
  return {.path = std::filesystem::path(directory.name()) / step_name(step),
          .writer = std::move(written.writer),
          .unremoved = failures.sentence()};
}

}  // namespace understudy::store
