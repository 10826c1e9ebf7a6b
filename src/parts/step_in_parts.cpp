// The coordinator's side: docs/commit.md, before and after the shards.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/process.h"
#include "format/metadata.h"
#include "os/path.h"
#include "parts/nest.h"
#include "parts/report.h"
#include "ranks/index_text.h"
#include "ranks/state_parts.h"
#include "store/step_commit.h"
#include "understudy/parts.h"

namespace understudy {
namespace {

using parts::Report;

// "step-7" is step 7, and so is "checkpoint_7"; what has no number is step 0.
std::int64_t number_of(const std::string& name) {
  std::int64_t number = 0;
  if (store::parse_step_name(name, number)) return number;
  const auto digits = name.find_last_not_of("0123456789") + 1;
  constexpr std::size_t kMostDigits = 18;
  if (digits == name.size() || name.size() - digits > kMostDigits) return 0;
  return std::stoll(name.substr(digits));
}

// By file, then by rank: the shards of all, then what there is beside them.
std::vector<Report> take_reports(std::span<const std::string> texts) {
  std::vector<Report> reports;
  for (const auto& text : texts) reports.push_back(parts::decode_report(text));
  std::ranges::sort(reports, {}, [](const Report& r) { return std::pair(r.file, r.rank); });
  if (reports.empty()) fail(ErrorCode::invalid, "no rank has reported a part");
  const auto count = reports.front().count;
  std::set<std::string> names;
  for (const auto& report : reports) {
    if (report.count != count || !names.insert(report.name).second) {
      fail(ErrorCode::invalid, "the parts of rank {} are not those of a step of {} ranks",
           report.rank, count);
    }
  }
  for (int rank = 0; rank < count; ++rank) {
    if (!names.contains(parts::part_name(rank, count, 0))) {
      fail(ErrorCode::invalid, "rank {} of {} has reported no part", rank, count);
    }
  }
  return reports;
}

class IndexMaker {
 public:
  std::string make(const std::vector<Report>& reports, const LeafPaths& paths) {
    for (const auto& report : reports) add(report);
    try {
      ranks::require_whole(index_, "the plan");
    } catch (const Error& error) {
      fail(ErrorCode::invalid, "{}", error.what());
    }
    const auto tree = parts::nest(Value::dict(std::move(leaves_)), paths);
    return ranks::write_step_index({std::move(index_), ranks::encode_skeleton(tree)});
  }

 private:
  void add(const Report& report) {
    const auto file = static_cast<std::uint32_t>(index_.files.size());
    index_.files.push_back(report.name);
    for (const auto& outline : report.outline.tensors) add(outline, file, report.rank);
    const auto skeleton = ranks::decode_skeleton(
        report.skeleton, format_text("the part {} of rank {}", report.name, report.rank));
    for (const auto& [key, value] : skeleton.pairs()) {
      if (names_.insert(key.as_text()).second) leaves_.emplace_back(key, value);
    }
  }

  void add(const ranks::TensorOutline& outline, std::uint32_t file, int rank) {
    const auto [place, is_new] = places_.try_emplace(outline.path, index_.tensors.size());
    if (is_new) {
      index_.tensors.push_back({outline.path, outline.dtype, outline.shape, {}, outline.is_tensor});
    }
    auto& tensor = index_.tensors[place->second];
    if (tensor.dtype != outline.dtype || tensor.shape != outline.shape) {
      fail(ErrorCode::invalid,
           "'{}' is {} {} on rank {} and {} {} on another; one name is one "
           "tensor",
           outline.path, name(outline.dtype), ranks::to_text(outline.shape), rank,
           name(tensor.dtype), ranks::to_text(tensor.shape));
    }
    for (const auto& chunk : outline.chunks) {
      tensor.chunks.push_back({file, outline.path, chunk});
    }
  }

  ranks::ChunkIndex index_;
  std::map<std::string, std::size_t> places_;  // in index_.tensors
  Value::Pairs leaves_;
  std::set<std::string> names_;
};

}  // namespace

struct StepInParts::State {
  HomeProcess home;
  std::filesystem::path path;
  std::shared_ptr<store::FolderLock> lock;
  std::optional<store::StepCommit> commit;
};

StepInParts::StepInParts(const std::filesystem::path& path, const std::string& mark, bool overwrite)
    : state_(std::make_unique<State>()) {
  os::require_path(path);
  state_->path = os::absolute(path);
  const auto name = state_->path.filename().native();
  if (name.empty()) fail(ErrorCode::invalid, "{} is no folder for a step", state_->path.native());
  state_->lock = store::lock_folder(os::Directory::open_or_make(state_->path.parent_path()));
  state_->commit.emplace(*state_->lock, store::StepPlace(name, number_of(name), mark),
                         store::CommitOptions{.overwrite = overwrite, .keep = {}});
  state_->commit->open();
  state_->commit->pause();
}

StepInParts::~StepInParts() {
  if (state_) abandon();
}
StepInParts::StepInParts(StepInParts&&) noexcept = default;
StepInParts& StepInParts::operator=(StepInParts&& other) noexcept {
  if (this != &other && state_) abandon();
  state_ = std::move(other.state_);
  return *this;
}

void StepInParts::abandon() noexcept {
  if (!state_->commit || !state_->home.is_here()) return;
  state_->commit->abandon();
  state_->commit.reset();
  state_->lock.reset();
}

std::filesystem::path StepInParts::commit(std::span<const std::string> reports,
                                          const LeafPaths& paths, const Value& metadata) {
  state_->home.require("a step");
  if (!state_->commit) fail(ErrorCode::closed, "{} has ended already", state_->path.native());
  auto& commit = *state_->commit;
  try {
    const auto parts = take_reports(reports);
    store::Manifest manifest;
    manifest.world_size = parts.front().count;
    manifest.metadata_json = metadata_to_json(metadata);
    for (const auto& part : parts) manifest.files.push_back({part.name, part.nbytes, part.digest});
    const bool has_index = parts.size() > 1 || !parts.front().is_whole_state;
    const auto index = has_index ? IndexMaker().make(parts, paths) : "";
    commit.go_on();
    if (has_index) {
      commit.make_durable(std::move(manifest), index);
    } else {
      commit.make_durable(std::move(manifest));
    }
    commit.retire();
  } catch (...) {
    abandon();
    throw;
  }
  state_->commit.reset();
  state_->lock.reset();
  return state_->path;
}

}  // namespace understudy
