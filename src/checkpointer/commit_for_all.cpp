#include "checkpointer/commit_for_all.h"

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include "base/error.h"
#include "ranks/wire.h"
#include "store/manifest.h"
#include "store/names.h"
#include "store/step_commit.h"

namespace understudy {
namespace {

using ranks::Topic;
using ranks::WireReader;
using Want = Peers::Want;

// The exchanges of one save.
enum Phase : std::uint64_t { kBeginning, kFiles, kOutcome, kPhases };

Topic topic_of(const SaveOfAll& save, Phase phase) {
  constexpr const char* kWhat[] = {"beginning of the save", "shards", "outcome of the save"};
  return {Peers::Lane::saves, save.number * kPhases + phase, kWhat[phase], save.step};
}

// What a rank has written.
struct Shard {
  store::ManifestFile file;
  std::string writer;
  std::string index;
};

std::string encode(const Shard& shard) {
  std::string out;
  ranks::put_text(out, shard.file.name);
  ranks::put_number(out, shard.file.nbytes);
  ranks::put_text(out, shard.file.digest);
  ranks::put_text(out, shard.writer);
  ranks::put_text(out, shard.index);
  return out;
}

Shard decode_shard(std::string_view bytes, int rank, int count) {
  WireReader in(bytes);
  const auto name = in.text();
  const auto nbytes = in.number();
  const auto digest = in.text();
  const auto writer = in.text();
  const auto index = in.text();
  if (!index || !in.rest().empty() || *name != store::shard_name(rank, count)) {
    fail(ErrorCode::corrupt, "what rank {} said of its shard makes no sense", rank);
  }
  return {{std::string(*name), *nbytes, std::string(*digest)},
          std::string(*writer),
          std::string(*index)};
}

constexpr auto kLastStatus = static_cast<std::uint64_t>(ErrorCode::closed) + 1;
constexpr auto kDropped = kLastStatus + 1;

// Rank 0's word on a save: well, or the Error that all throw.
std::string encode_outcome(const Error* failure) {
  std::string out;
  const bool is_dropped = dynamic_cast<const DroppedSave*>(failure) != nullptr;
  ranks::put_number(out, failure == nullptr ? 0
                         : is_dropped       ? kDropped
                                            : static_cast<std::uint64_t>(failure->code()) + 1);
  if (failure != nullptr) out += failure->what();
  return out;
}

void throw_outcome(std::string_view bytes) {
  WireReader in(bytes);
  const auto status = in.number();
  if (!status || *status > kDropped) {
    fail(ErrorCode::corrupt, "what rank 0 said of the outcome makes no sense");
  }
  if (*status == kDropped) throw DroppedSave(std::string(in.rest()));
  if (*status > 0) throw Error(static_cast<ErrorCode>(*status - 1), std::string(in.rest()));
}

Error as_error(const std::exception& failure) {
  const auto* error = dynamic_cast<const Error*>(&failure);
  return error != nullptr ? *error : Error(ErrorCode::io, failure.what());
}

Error as_error_of_rank(int rank, const std::exception& failure) {
  return Error(as_error(failure).code(), format_text("rank {}: {}", rank, failure.what()));
}

// For what can no longer change anything: the others find out by themselves, later.
template <class Say>
void try_to_say(const Say& say) noexcept {
  try {
    say();
  } catch (const std::exception&) {
    // The failure that is being said, or the success, is this rank's result all the same.
  }
}

void undo(store::StepCommit& commit) noexcept {
  try {
    commit.undo();
  } catch (const std::exception&) {
    // The lock was lost: whoever has it clears the folder. What failed is said by the failure.
  }
}

void say_unsynced(std::string& writer) {
  if (!writer.ends_with(store::kFoldersNotSynced)) writer += store::kFoldersNotSynced;
}

// Steps 4 to 7.
bool make_durable(store::StepCommit& commit, std::vector<Shard>& shards,
                  const LeadOptions& options) {
  store::Manifest manifest;
  manifest.world_size = static_cast<std::int64_t>(shards.size());
  manifest.metadata_json = options.metadata_json;
  std::vector<std::string> parts;
  for (auto& shard : shards) {
    manifest.files.push_back(shard.file);
    parts.push_back(std::move(shard.index));
  }
  return commit.make_durable(std::move(manifest), options.make_index(parts));
}

}  // namespace

DroppedSave::DroppedSave(std::int64_t step, std::int64_t urgent_step)
    : DroppedSave(
          format_text("step {} was not saved: it had not begun when the urgent save of step "
                      "{} took its place",
                      step, urgent_step)) {}

void CommitForAll::tell_dropped(const SaveOfAll& save, const DroppedSave& why) const noexcept {
  try_to_say([&] { exchanger_.tell_failure(topic_of(save, kBeginning), why, Want::none); });
  try_to_say([&] { exchanger_.ask(topic_of(save, kOutcome), encode_outcome(&why), Want::none); });
}

// Steps 1 to 3 of docs/commit.md, for this rank's shard.
std::string CommitForAll::write(const os::Directory& folder, const RankPart& part,
                                store::Writer& writer, std::atomic<std::uint64_t>* done) const {
  const auto source = part.shard();
  const auto name = store::shard_name(peers_.rank(), peers_.count());
  auto written = writer.write(folder, name, *source, done);
  // Where each machine has a view of its own, another's fsync may not know of this name.
  if (!folder.sync()) say_unsynced(written.writer);
  return encode({{name, written.nbytes, written.digest}, written.writer, part.index});
}

// Rank 0's shard, and what the others say of theirs.
std::vector<std::string> CommitForAll::gather(const SaveOfAll& save, const os::Directory& folder,
                                              const RankPart& part, store::Writer& writer,
                                              std::atomic<std::uint64_t>* done) const {
  const auto topic = topic_of(save, kFiles);
  std::optional<Error> failure;
  std::string own;
  try {
    own = write(folder, part, writer, done);
  } catch (const std::exception& error) {
    failure = as_error(error);
  }
  // The others are waited for in any case: what they still write would come back.
  return exchanger_.require_all(
      topic, failure ? exchanger_.tell_failure(topic, *failure) : exchanger_.ask(topic, own));
}

store::Committed CommitForAll::lead(const SaveOfAll& save, store::FolderLock& lock,
                                    const RankPart& part, store::Writer& writer,
                                    const LeadOptions& options,
                                    std::atomic<std::uint64_t>* done) const {
  const auto beginning = topic_of(save, kBeginning), outcome = topic_of(save, kOutcome);
  std::optional<store::StepCommit> commit;
  const auto give_up = [&](const Error& failure) {
    if (commit) undo(*commit);
    try_to_say([&] { exchanger_.ask(outcome, encode_outcome(&failure), Want::none); });
    throw failure;
  };
  // A. The temporary folder, whose name the others are told.
  try {
    commit.emplace(lock, save.step, options.commit);
    commit->open();
  } catch (const std::exception& error) {
    try_to_say([&] { exchanger_.tell_failure(beginning, error, Want::none); });
    give_up(as_error_of_rank(0, error));
  }
  std::vector<Shard> shards;
  try {
    exchanger_.ask(beginning, commit->temporary_name(), Want::none);
    // B. The shards of all.
    const auto texts = gather(save, commit->folder(), part, writer, done);
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
      shards.push_back(decode_shard(texts[rank], static_cast<int>(rank), peers_.count()));
    }
  } catch (const std::exception& error) {
    give_up(as_error(error));
  }
  // C. The index, the manifest, the rename.
  try {
    if (!make_durable(*commit, shards, options)) {
      say_unsynced(shards[0].writer);
    }
  } catch (const std::exception& error) {
    give_up(as_error_of_rank(0, error));
  }
  const auto durable_at = std::chrono::steady_clock::now();
  // D. The outcome.
  try_to_say([&] { exchanger_.ask(outcome, encode_outcome(nullptr), Want::none); });
  // E. Retention.
  return {.path = std::filesystem::path(lock.directory().name()) / store::step_name(save.step),
          .writer = std::move(shards[0].writer),
          .durable_at = durable_at,
          .unremoved = commit->retire()};
}

// The folder that rank 0 has made.
os::Directory CommitForAll::begin_following(const SaveOfAll& save, const os::Directory& run) const {
  const auto topic = topic_of(save, kBeginning);
  const auto name = patient_.require_first(topic, patient_.ask(topic, "", Want::first_rank));
  // A name from another process is no path.
  if (store::step_of_marked_name(name, store::kTemporary) != save.step) {
    fail(ErrorCode::corrupt, "rank 0 named a folder that is none of step {}: {}", save.step,
         in_quotes(name));
  }
  try {
    return run.open_directory(name);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    fail(ErrorCode::io, "{}, which rank 0 has made, is not here: all ranks must see one folder",
         run.path_of(name));
  }
}

store::Committed CommitForAll::follow(const SaveOfAll& save, const os::Directory& run,
                                      const RankPart& part, store::Writer& writer,
                                      std::atomic<std::uint64_t>* done) const {
  const auto files = topic_of(save, kFiles), outcome = topic_of(save, kOutcome);
  std::optional<Error> failure;
  bool may_be_there = false;  // rank 0 needs this rank's word
  try {
    const auto text = write(begin_following(save, run), part, writer, done);
    may_be_there = true;
    exchanger_.ask(files, text, Want::none);
  } catch (const std::exception& error) {
    failure = as_error_of_rank(peers_.rank(), error);
    if (!may_be_there) try_to_say([&] { exchanger_.tell_failure(files, error, Want::none); });
  }
  std::string word;
  try {
    word = patient_.require_first(outcome, patient_.ask(outcome, "", Want::first_rank));
  } catch (const std::exception& error) {
    if (failure && !may_be_there) throw *failure;
    fail(as_error(error).code(), "step {} may be there, or not: {}", save.step, error.what());
  }
  throw_outcome(word);
  return {.path = std::filesystem::path(run.name()) / store::step_name(save.step),
          .writer = {},
          .durable_at = std::chrono::steady_clock::now(),
          .unremoved = {}};
}

}  // namespace understudy
