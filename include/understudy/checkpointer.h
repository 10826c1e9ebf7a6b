// Checkpointer: save, restore, resume, retention.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "understudy/peers.h"
#include "understudy/stager.h"
#include "understudy/ticket.h"
#include "understudy/value.h"

namespace understudy {

/// How a Checkpointer works.
struct CheckpointerOptions {
  std::filesystem::path directory;    ///< of the run; a relative one is fixed now
  std::optional<Keep> keep{};         ///< complete steps kept, as in `.keep = 3`; absent: all
  Memory memory = Memory::automatic;  ///< what images are made of
  Survive survive{};                  ///< whether the newest image outlives the process
  WhenNoRoom when_no_room = WhenNoRoom::error;  ///< with `survive`; see WhenNoRoom
  Capture capture = Capture::automatic;         ///< how states are captured
  int images = 2;  ///< captured states that may exist at once; each costs the state's size
  WhenBusy when_busy = WhenBusy::wait;  ///< what `save` does when every image is leased
  bool huge_pages = false;              ///< collapse overlapped storages into huge pages, once
  int threads = 0;                      ///< copying threads; 0: the cores this process may use
  bool allow_pickle = false;            ///< for reading steps that carry pickled objects
  WriterChoice writer = WriterChoice::automatic;  ///< who writes; see WriterChoice
  /// Bytes a second that persisting writes at most, 1 MiB or more; absent: no
  /// limit. With one, saves queue for longer and keep their images for longer.
  std::optional<std::uint64_t> max_write_rate{};
  /// The other ranks, each of which makes a Checkpointer with the same options: they save one step
  /// together. Absent, or one rank: this process alone. See Checkpointer.
  std::shared_ptr<Peers> peers{};
  std::chrono::duration<double> timeout{600};  ///< what a rank waits for another
};

/// How one step is saved.
struct SaveOptions {
  /// Kept in the manifest. JSON types only: none, booleans, integers, floats (NaN
  /// and infinities too), texts, lists, dicts with text keys.
  Value metadata{};
  bool overwrite = false;  ///< replace a step that exists; else that is Error(invalid)
  /// Goes before saves that wait, and drops those of them that are not urgent:
  /// their tickets fail with Error(busy), which no later call throws again.
  bool urgent = false;
  /// With other ranks: keys of the state whose values are each rank's own (the state of a random
  /// generator, a data loader). All are kept, and each rank resumes its own.
  std::vector<std::string> per_rank{};
};

/// What is restored.
struct RestoreOptions {
  std::optional<std::int64_t> step{};  ///< absent: the newest
  std::vector<std::string> names{};    ///< as in LoadFileOptions
  /// With memory only: Error(not_found) when nothing whole has survived there.
  Source source = Source::automatic;
};

/// A step that has been read.
struct Checkpoint {
  std::int64_t step = 0;  ///< its number
  Value state;            ///< the tree, over new memory
  Value metadata;         ///< a dict, or none
  std::string source;     ///< "disk" or "memory"
  std::string reader;     ///< how its bytes were read, and why so
};

/// What `resume` does when the newest step is damaged: throw, or take the newest whole one
/// before it and report what it skipped.
enum class OnDamage { error, previous };

/// What is resumed, and what is done about damage and newer steps.
struct ResumeOptions {
  std::optional<std::int64_t> step{};    ///< absent: the newest
  OnDamage on_damage = OnDamage::error;  ///< only without `step`
  /// Rolls the run back: every step above the one that is resumed is given up, complete or
  /// damaged, durably and before the state changes. Takes the directory's lock, and waits for
  /// this checkpointer's saves first.
  bool discard_newer = false;
  /// Only these parts of `state`: paths, each with all below it. The rest stays as it is and
  /// is not looked for. Empty: all.
  std::vector<std::string> names{};
  /// False: what fits is restored and the rest left as it is; ResumeReport lists it.
  bool strict = true;
  /// The first of these prefixes that begins a saved path, or a key in it, is replaced by the
  /// other text, once. Names and the report mean the new paths.
  std::vector<std::pair<std::string, std::string>> rename_prefixes{};
  /// Gives the new path of each leaf; called after `rename_prefixes`.
  std::function<std::string(const std::string& path)> rename{};
  /// Tensors of another dtype are converted, as torch's copy_ does, and not refused.
  bool convert = false;
  /// As SaveOptions::per_rank. What was saved so is known, and need not be said; but what one
  /// process has saved is no part of each of several ranks. With another number of ranks than at
  /// the save it is Error(invalid), and left as it is where `strict` is false.
  std::vector<std::string> per_rank{};
  /// With memory only: Error(not_found) when nothing whole has survived there.
  Source source = Source::automatic;
  /// Called with the merged state when all is read, verified and compared, and before anything
  /// changes. What it throws passes through.
  std::function<void(const Value& merged)> prepare{};
};

/// What the last `resume` did.
struct ResumeReport {
  /// A newer step that is damaged; or one in memory that is damaged or not of this run.
  struct Skipped {
    std::int64_t step;   ///< its number
    std::string reason;  ///< why it was skipped, one sentence
  };
  std::int64_t step = 0;                ///< what was resumed
  std::string source;                   ///< "disk" or "memory"
  std::string reader;                   ///< how its bytes were read, and why so
  std::vector<Skipped> skipped;         ///< what lay in memory, then with OnDamage::previous steps
  std::vector<std::int64_t> discarded;  ///< ascending; see ResumeOptions::discard_newer
  // With ResumeOptions::strict false, paths. Where a whole part is missing or unexpected, its
  // path stands for it.
  std::vector<std::string> missing;     ///< paths of the state that the step has not
  std::vector<std::string> unexpected;  ///< paths of the step that the state has not
  std::vector<std::string> mismatched;  ///< paths of both that do not fit
};

class CheckpointerState;

/// One directory of steps. Reading needs no lock; the first save takes the
/// directory's lock for this process and removes what writers that ended early left.
/// Handles belong to the process that made them: in a forked child every call
/// throws Error(closed). Thread-safe.
///
/// With `peers`, it is made, and `save`, `restore` and `resume` are called, by all ranks, in the
/// same order and with the same arguments but the state, from one thread at a time. Leaves are
/// `chunk`s, or replicas: equal paths are one leaf, of which one rank writes its own. A step is
/// there for all or for none, and what fails on one rank is thrown on all: "rank 3: ", and its
/// reason.
class Checkpointer {
 public:
  /// Makes the directory when it is missing.
  explicit Checkpointer(CheckpointerOptions options);
  ~Checkpointer();  ///< closes; a failure nobody saw is lost here, so call close()
  Checkpointer(Checkpointer&&) noexcept;
  Checkpointer& operator=(Checkpointer&&) noexcept;

  /// Captures `state` as it is at the call (see Stager::stage), then persists in
  /// the background. The
  /// ticket's result is the step's folder, once durable. What can be known at
  /// once (a step that exists, an opaque leaf) is thrown here; so is, once, the
  /// failure of an earlier save that nobody has waited for.
  /// `number` as in Stager::stage.
  Ticket<std::filesystem::path> save(std::int64_t step, const Value& state,
                                     const SaveOptions& options = {}, std::uint64_t number = 0);

  /// The same for the state of the last call, as Stager::stage_again. When it gives
  /// nothing, an urgent one may have dropped saves that had not begun all the same.
  std::optional<Ticket<std::filesystem::path>> save_again(std::int64_t step, const Again& again,
                                                          const SaveOptions& options = {});

  /// Makes the images ready, as Stager::prewarm.
  Ticket<std::uint64_t> prewarm(const Value& state);

  /// Reads a step into new tensors. Throws Error(not_found) when there is none,
  /// Error(corrupt) with the newest other complete step when it is damaged.
  Checkpoint restore(const RestoreOptions& options = {});

  /// Reads the newest step into `state`, in place: 1. every byte is read and
  /// verified; 2. the trees are compared and every Loadable is asked; 3. only
  /// then Loadables take their parts and tensors are overwritten. On return
  /// `state` holds the restored scalars over the same tensors. Returns nothing
  /// when the directory has no step. Should the file be cut or overwritten during
  /// 3, the Error says that the state was overwritten in part.
  std::optional<std::int64_t> resume(Value& state, const ResumeOptions& options = {});
  /// In place of `save` and `resume`, by a rank that cannot make its state: the calls of the others
  /// fail with this. Nothing happens where there are no others.
  void fail_save(std::int64_t step, const std::exception& why);
  void fail_resume(const std::exception& why);  ///< see fail_save
  /// What the last successful resume did.
  std::optional<ResumeReport> resumed() const;

  /// Complete steps, ascending.
  std::vector<std::int64_t> steps() const;
  /// The newest complete step; nothing when there is none.
  std::optional<std::int64_t> latest() const;
  /// What lies in the directory that looks like a checkpoint and is no step of ours,
  /// in words: "a checkpoint of Lightning (last.ckpt)". Empty when nothing does. For
  /// those who got nothing from `resume` and would begin anew.
  std::string foreign_checkpoint() const;

  /// Waits for all saves; throws the first failure that nobody has seen.
  /// Returns false when the time ran out first.
  bool wait(Timeout timeout = {});
  /// Waits as `wait` does, then ends. Safe to call again.
  void close();

  /// From the root, as it was when the checkpointer was made.
  const std::filesystem::path& directory() const;

 private:
  std::shared_ptr<CheckpointerState> state_;
};

}  // namespace understudy
