#include "survive/survivors.h"

#include <algorithm>
#include <functional>
#include <map>

#include "base/error.h"
#include "format/hash.h"
#include "format/safetensors.h"
#include "os/memory_folder.h"
#include "store/json_members.h"
#include "store/look.h"
#include "store/names.h"
#include "store/step_commit.h"

namespace understudy::survive {

namespace {

constexpr std::string_view kHolders = "holders";

std::string to_json(const World& world) {
  return fmt::format(R"({{"run": {}, "boot": {}, "user": {}, "rank": {}, "ranks": {}}})",
                     format::json_string(world.run), format::json_string(world.boot), world.user,
                     world.rank, world.ranks);
}

/// Why a survivor is not of this world; empty when it is.
std::string foreignness(const store::Manifest& manifest, const World& world) {
  if (manifest.survivor_json.empty()) return "it does not say whose it is";
  std::map<std::string, std::string> says;
  for (auto& [name, value] : store::split_json_object(manifest.survivor_json, "survivor")) {
    says[name] = std::move(value);
  }
  if (says["run"] != format::json_string(world.run)) return "it is of another run";
  if (says["boot"] != format::json_string(world.boot)) {
    return "it is of another start of the machine";
  }
  if (says["user"] != fmt::to_string(world.user)) return "it is of another user";
  if (says["ranks"] != fmt::to_string(world.ranks)) {
    return fmt::format("it is of {} ranks, and here are {}", says["ranks"], world.ranks);
  }
  if (says["rank"] != fmt::to_string(world.rank)) {
    return fmt::format("it is of rank {}, and this is rank {}", says["rank"], world.rank);
  }
  return {};
}

Survivor survivor_of(const store::StepFolder& found, const World& world) {
  Survivor survivor;
  survivor.step = found.step;
  survivor.path = found.path;
  survivor.problem = found.problem;
  if (!found.manifest) return survivor;
  survivor.time = found.manifest->time;
  survivor.ranks = static_cast<int>(found.manifest->world_size);
  for (const auto& file : found.manifest->files) survivor.nbytes += file.nbytes;
  if (survivor.problem.empty()) survivor.problem = foreignness(*found.manifest, world);
  return survivor;
}

std::string line_of(const std::string& holder) {
  return format::hash128_hex(std::as_bytes(std::span(holder))) + "\n";
}

void write_file(const os::Directory& directory, const std::string& name, const std::string& text) {
  auto file = std::move(*directory.create(name, false, 0600));
  file.write_at(0, std::as_bytes(std::span(text)));
  file.close();
}

std::string read_file(const os::Directory& directory, const std::string& name) {
  if (!directory.exists(name)) return {};
  const auto file = directory.open_file(name);
  constexpr std::uint64_t kMost = 4096;  // ours are two lines
  std::string text(static_cast<std::size_t>(std::min(file.size(), kMost)), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

World World::of(const os::Directory& run) {
  return {.run = os::identity_of(run), .boot = os::boot_id(), .user = os::this_user()};
}

std::vector<Survivor> look_at(const os::Directory& memory, const World& world) {
  std::vector<Survivor> all;
  for (const auto& found : store::look_at_steps(memory)) all.push_back(survivor_of(found, world));
  std::ranges::reverse(all);
  return all;
}

std::string continued_by(const os::Directory& memory, const std::string& holder) {
  const auto trusted = read_file(memory, std::string(kHolders));
  // A lock file is empty while there is no space on the disk, and then nobody has saved.
  if (holder.empty() && !trusted.empty()) return {};
  if (trusted.find(line_of(holder)) != std::string::npos) return {};
  return "the run was continued by another process since, which left nothing in this memory";
}

void set_holders(const os::Directory& memory, const std::string& before, const std::string& now) {
  const auto temporary = store::marked_name(kHolders, store::kTemporary);
  write_file(memory, temporary, line_of(before) + line_of(now));
  memory.rename(temporary, std::string(kHolders));
}

bool is_torn_holders(std::string_view name) {
  return store::is_marked_name(name, kHolders, store::kTemporary);
}

void seal(store::FolderLock& memory, const SealedImage& image, const World& world) {
  const auto turn = memory.begin_commit();
  const auto& directory = memory.directory();
  store::Attempt attempt(directory, store::StepPlace(image.step));
  try {
    const auto folder = attempt.make_temporary();
    const auto shard = store::shard_name(world.rank, world.ranks);
    directory.link(image.file, folder, shard);
    store::Manifest manifest;
    manifest.step = image.step;
    manifest.world_size = world.ranks;
    manifest.time = store::utc_now();
    manifest.files = {{shard, image.nbytes, image.digest}};
    manifest.metadata_json = image.metadata_json;
    manifest.survivor_json = to_json(world);
    write_file(folder, std::string(store::kManifestName), store::write_manifest(manifest));
    attempt.put_in_place(/*may_replace=*/true);
  } catch (...) {
    if (!attempt.undo()) memory.need_clearing();
    throw;
  }
  if (attempt.remove_replaced().count > 0) memory.need_clearing();
}

void remove_steps(store::FolderLock& memory, const std::function<bool(std::int64_t step)>& keeps) {
  const auto turn = memory.begin_commit();
  const auto& directory = memory.directory();
  for (const auto& name : directory.list()) {
    std::int64_t step = 0;
    if (!store::parse_step_name(name, step) || keeps(step)) continue;
    const auto doomed = store::marked_name(name, store::kDoomed);
    directory.rename(name, doomed);
    if (!store::try_remove_tree(directory, doomed)) memory.need_clearing();
  }
}

}  // namespace understudy::survive
