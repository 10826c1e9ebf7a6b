#include "restore/load_folder.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "os/path.h"
#include "restore/load_shards.h"
#include "store/foreign.h"
#include "store/look.h"
#include "store/step_files.h"
#include "store/weight_index.h"

namespace understudy::restore {
namespace {

constexpr std::string_view kIndexEnd = ".safetensors.index.json";
constexpr std::string_view kFileEnd = ".safetensors";

/// The tensors of an index, in its order, each with the name of its file.
using Index = std::vector<std::pair<std::string, std::string>>;

bool takes(const std::string& wanted, const std::string& name) {
  return name == wanted || (name.starts_with(wanted) && name[wanted.size()] == '.');
}

/// Leaves what `names` takes; each of them must take something.
void select(Index& index, const std::vector<std::string>& names, const std::string& file) {
  if (names.empty()) return;
  std::set<std::string> unseen(names.begin(), names.end());
  std::erase_if(index, [&](const auto& item) {
    bool is_taken = false;
    for (const auto& wanted : names) {
      if (!takes(wanted, item.first)) continue;
      is_taken = true;
      unseen.erase(wanted);
    }
    return !is_taken;
  });
  if (!unseen.empty()) {
    fail(ErrorCode::not_found, "{} has nothing named '{}'", file, *unseen.begin());
  }
}

/// The tensors of one file by name, only those that are wanted of it.
std::map<std::string, Value> load_shard(const os::Directory& folder, const std::string& name,
                                        LoadFileOptions options, WorkerPool& readers,
                                        const Index& index) {
  if (!options.names.empty()) {
    std::erase_if(options.names, [&](const std::string& wanted) {
      return std::ranges::none_of(index, [&](const auto& item) {
        return item.second == name && takes(wanted, item.first);
      });
    });
  }
  const store::ShardReader shard(folder.open_file(name));
  const Value state = load(shard, options, readers).state;
  std::map<std::string, Value> tensors;
  for (const auto& [key, value] : state.pairs()) {
    if (key.type() == Value::Type::text) tensors.emplace(key.as_text(), value);
  }
  return tensors;
}

Value load_indexed(const os::Directory& folder, const std::string& index_name,
                   const LoadFileOptions& options, WorkerPool& readers) {
  const os::File file = folder.open_file(index_name);
  Index index = store::read_weight_index(file);
  select(index, options.names, file.name());
  std::map<std::string, std::map<std::string, Value>> shards;
  for (const auto& item : index) shards[item.second];
  for (auto& [name, tensors] : shards) {
    tensors = load_shard(folder, name, options, readers, index);
  }
  Value::Pairs pairs;
  for (const auto& [name, shard] : index) {
    const auto found = shards[shard].extract(name);
    if (!found) {
      fail(ErrorCode::corrupt, "{} has no tensor '{}', which {} says lies there",
           folder.path_of(shard), name, index_name);
    }
    pairs.emplace_back(name, found.mapped());
  }
  return Value::dict(std::move(pairs));
}

/// The only name in the folder that ends so; nothing when there is none.
std::optional<std::string> only_name(const os::Directory& folder, std::string_view end) {
  std::vector<std::string> names = folder.list();
  std::erase_if(names, [&](const std::string& name) { return !name.ends_with(end); });
  if (names.size() > 1) {
    fail(ErrorCode::invalid, "{} has {} files that end in {}; give one of them", folder.name(),
         names.size(), end);
  }
  if (names.empty()) return {};
  return names.front();
}

[[noreturn]] void fail_folder(const os::Directory& folder) {
  if (const auto step = store::find_newest_step(folder, [](std::int64_t) { return true; })) {
    fail(ErrorCode::invalid,
         "{} is a folder of steps; give a step's folder ({}), or restore with a Checkpointer",
         folder.name(), step->path.native());
  }
  const auto other = store::name_checkpoint_in(folder);
  fail(ErrorCode::invalid, "{} is a folder without a step or a safetensors model{}", folder.name(),
       other.empty() ? "" : "; what lies there is " + other);
}

/// The step that has the path; should a writer replace it meanwhile, what has the path then.
Value load_step_at(const std::filesystem::path& path, const LoadFileOptions& options,
                   WorkerPool& readers) {
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    const auto step = store::look_at_step(path);
    try {
      store::StepShards shards(step);
      return load_step(step, shards, options, readers).state;
    } catch (const Error&) {
      const auto now = os::find_file(path);
      if (now && now->is_same_file(step.folder->info())) throw;
    }
  }
  store::fail_restless(path);
}

std::string own_name(const std::filesystem::path& path) {
  return path.has_filename() ? path.filename() : path.parent_path().filename();
}

}  // namespace

Value load_folder(const std::filesystem::path& path, const LoadFileOptions& options,
                  WorkerPool& readers) {
  const auto folder = os::Directory::open(path);
  const auto step = [&] { return load_step_at(path, options, readers); };
  if (store::is_step_itself(folder)) return step();
  if (const auto index = only_name(folder, kIndexEnd)) {
    return load_indexed(folder, *index, options, readers);
  }
  // A damaged step still has its name, and a file that must not pass for a model.
  std::int64_t number = 0;
  if (store::parse_step_name(own_name(path), number)) return step();
  const auto file = only_name(folder, kFileEnd);
  if (!file) fail_folder(folder);
  return load(store::ShardReader(folder.open_file(*file)), options, readers).state;
}

}  // namespace understudy::restore
