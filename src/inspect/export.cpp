#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <tuple>

#include "base/error.h"
#include "format/integrity.h"
#include "inspect/plain_file.h"
#include "inspect/resolve.h"
#include "inspect/spread.h"
#include "inspect/stored_state.h"
#include "os/file.h"
#include "os/path.h"
#include "store/commit.h"
#include "store/leftovers.h"
#include "store/names.h"
#include "store/writer.h"
#include "understudy/inspect.h"
#include "value/walk.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using inspect::PlainFile;
using inspect::PlainTensor;
using Metadata = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kFormatKey = "format";  // what Hugging Face tools look for: "pt"

/// What goes into the files.
struct Selection {
  std::vector<PlainTensor> kept;
  std::map<std::string, std::vector<std::string>> tied;  ///< kept name to its other names
  std::uint64_t tied_count = 0;
  std::uint64_t left_out = 0;
};

/// The same elements in the same order at the same place.
using Place = std::tuple<const std::byte*, DType, Dims, Dims>;

/// True for a name that can stand as a key of `__metadata__` beside ours.
bool can_be_dropped(const std::string& name) {
  return name != kFormatKey && !name.starts_with(format::kReservedPrefix);
}

class Selector {
 public:
  Selector(std::string prefix, const Value& state)
      : prefix_(std::move(prefix)), state_(state), spread_(state) {
    while (prefix_.ends_with('.')) prefix_.pop_back();
  }

  Selection run() {
    value::walk(state_, [&](const value::Path& path, const Value& node) {
      if (!node.is_container()) leaf(path.str(), node);
      return true;
    });
    return std::move(selection_);
  }

 private:
  void leaf(std::string name, const Value& node) {
    if (!prefix_.empty()) {
      if (!name.starts_with(prefix_ + ".")) return;
      name.erase(0, prefix_.size() + 1);
    }
    if (node.type() == Value::Type::tensor) {
      tensor(std::move(name), node.as_tensor());
    } else {
      ++selection_.left_out;
    }
  }

  void tensor(std::string name, const Tensor& tensor) {
    if (name.empty() || name == "__metadata__" || !names_.insert(name).second) {
      fail(ErrorCode::invalid, "a plain file cannot hold {} the name '{}'; export a part of it",
           name.empty() || name == "__metadata__" ? "a tensor of" : "two tensors of", name);
    }
    if (tensor.numel() > 0) {
      const auto [first, is_new] = places_.try_emplace(
          Place(tensor.data(), tensor.dtype(), tensor.shape(), tensor.strides()), name);
      if (!is_new && can_be_dropped(name)) {
        selection_.tied[first->second].push_back(std::move(name));
        ++selection_.tied_count;
        return;
      }
    }
    spread_.take(tensor.nbytes(), name);
    selection_.kept.push_back({std::move(name), tensor});
  }

  std::string prefix_;
  const Value& state_;
  inspect::SpreadLimit spread_;
  Selection selection_;
  std::set<std::string> names_;  // sorted: names may be chosen to collide
  std::map<Place, std::string> places_;
};

/// `format: pt`, and for each dropped name the one that was kept.
Metadata metadata_of(const std::vector<PlainTensor>& tensors, const Selection& selection) {
  Metadata metadata{{std::string(kFormatKey), "pt"}};
  for (const auto& plain : tensors) {
    const auto tied = selection.tied.find(plain.name);
    if (tied == selection.tied.end()) continue;
    for (const auto& name : tied->second) metadata.emplace_back(name, plain.name);
  }
  return metadata;
}

/// Fills one file after the other; a tensor is never cut.
std::vector<std::vector<PlainTensor>> split(const std::vector<PlainTensor>& tensors,
                                            std::uint64_t max_nbytes) {
  std::vector<std::vector<PlainTensor>> shards(1);
  std::uint64_t nbytes = 0;
  for (const auto& plain : tensors) {
    const auto n = plain.tensor.nbytes();
    if (!shards.back().empty() && (nbytes > max_nbytes || n > max_nbytes - nbytes)) {
      shards.emplace_back();
      nbytes = 0;
    }
    shards.back().push_back(plain);
    nbytes += n;
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_index(const os::Directory& folder, const nlohmann::json& weight_map,
                 std::uint64_t nbytes) {
  const nlohmann::json index{{"metadata", {{"total_size", nbytes}}}, {"weight_map", weight_map}};
  const auto text = index.dump(2) + "\n";
  auto file = folder.create("model.safetensors.index.json");
  file->write_at(0, std::as_bytes(std::span(text)));
  file->sync();
  file->close();
}

/// Writes the shards and, for more than one, the index. Gives the names.
std::vector<std::string> write_shards(const os::Directory& folder, const Selection& selection,
                                      const ExportOptions& options, std::uint64_t nbytes,
                                      const inspect::Gather& gather) {
  const auto shards = split(selection.kept, options.max_shard_nbytes);
  store::Writer writer;
  std::vector<std::string> names;
  auto weight_map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i, shards.size()));
    for (const auto& plain : shards[i]) weight_map[plain.name] = names.back();
    PlainFile file(shards[i], metadata_of(shards[i], selection), names.back(), gather);
    writer.write(folder, names.back(), file);
  }
  if (shards.size() > 1) write_index(folder, weight_map, nbytes);
  return names;
}

[[noreturn]] void fail_exists(const fs::path& out) {
  fail(ErrorCode::invalid, "'{}' exists; an export replaces nothing", out.string());
}

/// The folder appears whole or not at all: it is written under another name
/// beside its place.
std::vector<fs::path> write_folder(const fs::path& out, const Selection& selection,
                                   const ExportOptions& options, std::uint64_t nbytes,
                                   const inspect::Gather& gather) {
  const auto parent = os::Directory::open(out.has_parent_path() ? out.parent_path() : ".");
  const auto name = out.filename().string();
  const auto temporary = store::marked_name("." + name, store::kTemporary);
  std::vector<fs::path> files;
  try {
    const auto folder = parent.make_directory(temporary);
    for (const auto& file : write_shards(folder, selection, options, nbytes, gather)) {
      files.push_back(out / file);
    }
    folder.sync();
    if (!parent.rename_to_new(temporary, name)) fail_exists(out);
    parent.sync();
  } catch (...) {
    store::try_remove_tree(parent, temporary);
    throw;
  }
  return files;
}

/// Known before anything is read; the rename looks again.
void require_new(const fs::path& out) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(out, error))) fail_exists(out);
}

/// "out/" names what "out" names.
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

ExportReport export_state(const fs::path& path, const fs::path& to, const ExportOptions& options) {
  if (options.max_shard_nbytes == 0) fail(ErrorCode::invalid, "shards cannot be of 0 bytes");
  os::require_path(to);
  const auto out = without_slash(to);
  require_new(out);
  auto source = inspect::open_target(path);
  const auto from = source.target.path.string();
  const inspect::StoredState state(std::move(source));
  const auto selection = Selector(options.prefix, state.tree()).run();
  if (selection.kept.empty()) {
    fail(ErrorCode::not_found, "'{}' has no tensors{}", from,
         options.prefix.empty() ? "" : fmt::format(" below '{}'", options.prefix));
  }

  ExportReport report;
  report.tensors = selection.kept.size();
  report.tied = selection.tied_count;
  report.left_out = selection.left_out;
  for (const auto& plain : selection.kept) report.nbytes += plain.tensor.nbytes();
  if (options.hugging_face) {
    report.files = write_folder(out, selection, options, report.nbytes, state.gatherer());
  } else {
    PlainFile file(selection.kept, metadata_of(selection.kept, selection), out.string(),
                   state.gatherer());
    store::Writer writer;
    store::commit_file(out, file, writer, store::Existing::refuse);
    report.files = {out};
  }
  return report;
}

}  // namespace understudy
