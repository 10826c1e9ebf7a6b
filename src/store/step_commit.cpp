#include "store/step_commit.h"

#include <fmt/chrono.h>

#include <chrono>
#include <utility>

#include "base/error.h"
#include "format/hash.h"
#include "store/names.h"
#include "store/retention.h"

namespace understudy::store {

std::string utc_now() {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

namespace {

[[noreturn]] void fail_exists(const os::Directory& directory, const std::string& name) {
  std::int64_t step = 0;
  fail(ErrorCode::invalid, "{} is there already: {}/{}; only with overwrite is it replaced",
       parse_step_name(name, step) ? format_text("step {}", step) : "a file or folder",
       directory.name(), name);
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
  if (manifest.index) require(manifest.index->name, manifest.index->nbytes);
  require(std::string(kManifestName), 1);
}

void require_step_number(std::int64_t step) {
  if (step < 0) fail(ErrorCode::invalid, "step {} cannot be saved: steps begin at 0", step);
}

bool is_empty_folder(const os::Directory& directory, const std::string& name) {
  const auto found = directory.find(name);
  return found && found->type == os::FileInfo::Type::directory &&
         directory.open_directory(name).list().empty();
}

void require_absent(const os::Directory& directory, const std::string& name,
                    bool takes_empty = false) {
  if (!directory.exists(name) || (takes_empty && is_empty_folder(directory, name))) return;
  fail_exists(directory, name);
}

}  // namespace

void require_new_step(const os::Directory& directory, std::int64_t step) {
  require_step_number(step);
  require_absent(directory, step_name(step));
}

std::string shard_name(int rank, int count) {
  return fmt::format("shard-{:05}-of-{:05}.safetensors", rank, count);
}

Attempt::Attempt(const os::Directory& directory, const StepPlace& place)
    : directory_(directory),
      name_(place.name),
      takes_empty_(place.takes_empty),
      temporary_(place.mark.empty() ? marked_name(name_, kTemporary)
                                    : name_ + std::string(kTemporary) + place.mark),
      aside_(marked_name(name_, kSetAside)),
      successor_(marked_name(name_, kSuccessor)) {}

os::Directory Attempt::make_temporary() const {
  // What replaces a step is at no moment open to more people than the step was.
  const auto replaced = directory_.find(name_);
  const unsigned mode = replaced ? (replaced->mode & 0777) | 0700 : 0777;
  return directory_.make_directory(temporary_, mode);
}

void Attempt::put_in_place(bool may_replace) {
  if (may_replace && directory_.exists(name_)) return replace();
  if (takes_empty_ && is_empty_folder(directory_, name_)) directory_.remove_folder(name_);
  if (directory_.rename_to_new(temporary_, name_)) {
    place_ = Place::renamed;
  } else if (may_replace) {
    replace();  // it appeared just now
  } else {
    fail_exists(directory_, name_);
  }
}

Unremoved Attempt::remove_replaced() const noexcept {
  Unremoved failures;
  if (place_ == Place::exchanged) try_remove_tree(directory_, temporary_, &failures);
  if (place_ == Place::both_renamed) try_remove_tree(directory_, aside_, &failures);
  return failures;
}

bool Attempt::undo() noexcept {
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

void Attempt::replace() {
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

// For a step that cannot be renamed. The new one is whole and on disk under
// the name of a successor before the old one goes.
void Attempt::replace_by_removal() {
  directory_.rename(temporary_, successor_);
  place_ = Place::successor;
  directory_.sync();
  place_ = Place::old_is_removed;
  directory_.remove_tree(name_);
  directory_.rename(successor_, name_);
}

StepCommit::StepCommit(FolderLock& lock, const StepPlace& place, const CommitOptions& options)
    : lock_(lock),
      step_(place.step),
      options_(options),
      turn_((require_step_number(place.step), lock.begin_commit())),
      directory_(lock.directory()),
      attempt_(directory_, place) {
  if (!options.overwrite) require_absent(directory_, place.name, place.takes_empty);
  if (place.mark.empty()) return;
  user_ = lock_.keep(temporary_name());
  try {
    lock_.clear_leftovers_of(place.name);
    // What an earlier save with this mark has left.
    if (directory_.exists(temporary_name())) directory_.remove_tree(temporary_name());
  } catch (...) {
    lock_.let_go(temporary_name(), user_);
    throw;
  }
}

StepCommit::~StepCommit() {
  if (user_ != 0) lock_.let_go(temporary_name(), user_);
}

void StepCommit::pause() {
  turn_.unlock();
}

void StepCommit::go_on() {
  turn_ = lock_.begin_commit();
  if (user_ == 0 || lock_.has(temporary_name(), user_)) return;
  fail(ErrorCode::busy, "{} has been begun anew by another save of this process",
       directory_.path_of(temporary_name()));
}

const os::Directory& StepCommit::open() {
  folder_ = attempt_.make_temporary();
  return *folder_;
}

bool StepCommit::make_durable(Manifest manifest, const std::string& index) {
  manifest.index = {std::string(kIndexName), index.size(),
                    format::hash128_hex(std::as_bytes(std::span(index)))};
  write_small_file(*folder_, std::string(kIndexName), index);
  return make_durable(std::move(manifest));
}

bool StepCommit::make_durable(Manifest manifest) {
  // 4. The manifest, and fsync.
  manifest.step = step_;
  manifest.time = utc_now();
  write_small_file(*folder_, std::string(kManifestName), write_manifest(manifest));
  // 5. fsync of the folder.
  const bool has_folder_sync = folder_->sync();
  // 6. rename, if all is still there and still ours.
  require_intact(*folder_, manifest);
  lock_.require_held();
  attempt_.put_in_place(options_.overwrite);
  // 7. fsync of the parent.
  const bool has_sync = directory_.sync() && has_folder_sync;
  lock_.require_held();
  return has_sync;
}

// The step is durable: what fails from here on is left for the next commit to clear.
std::string StepCommit::retire() {
  Unremoved failures = attempt_.remove_replaced();
  if (options_.keep) failures.add(apply_retention(directory_, *options_.keep, step_));
  if (failures.count > 0) lock_.need_clearing();
  failures.add(lock_.uncleared());
  return failures.sentence();
}

void StepCommit::abandon() noexcept {
  if (user_ != 0 && !lock_.has(temporary_name(), user_)) return;
  if (!attempt_.undo() && turn_.owns_lock()) lock_.need_clearing();
}

void StepCommit::undo() {
  if (!attempt_.undo()) lock_.need_clearing();
  lock_.require_held();
}

}  // namespace understudy::store
