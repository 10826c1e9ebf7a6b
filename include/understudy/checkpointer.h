// Checkpointer: the front door. Save, restore, resume, retention.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "understudy/stager.h"
#include "understudy/ticket.h"
#include "understudy/value.h"

namespace understudy {

struct CheckpointerOptions {
  /// A relative one is fixed when the checkpointer is made.
  std::filesystem::path directory;
  std::optional<Keep> keep{};  ///< complete steps kept, as in `.keep = 3`; absent: all
  Memory memory = Memory::automatic;
  bool survive = false;
  Capture capture = Capture::automatic;
  int images = 2;
  WhenBusy when_busy = WhenBusy::wait;
  bool huge_pages = false;
  int threads = 0;
  bool allow_pickle = false;  ///< for reading steps that carry pickled objects
  WriterChoice writer = WriterChoice::automatic;
  /// Bytes a second that persisting writes at most, 1 MiB or more; absent: no
  /// limit. With one, saves queue for longer and keep their images for longer.
  std::optional<std::uint64_t> max_write_rate{};
};

struct SaveOptions {
  /// Kept in the manifest. JSON types only: none, booleans, integers, floats (NaN
  /// and infinities too), texts, lists, dicts with text keys.
  Value metadata{};
  bool overwrite = false;  ///< replace a step that exists; else that is Error(invalid)
  /// Goes before saves that wait, and drops those of them that are not urgent:
  /// their tickets fail with Error(busy), which no later call throws again.
  bool urgent = false;
};

struct RestoreOptions {
  std::optional<std::int64_t> step{};  ///< absent: the newest
  std::vector<std::string> names{};    ///< as in LoadFileOptions
};

/// A step that has been read.
struct Checkpoint {
  std::int64_t step = 0;
  Value state;
  Value metadata;      ///< a dict, or none
  std::string source;  ///< "disk" or "memory"
  std::string reader;  ///< how its bytes were read, and why so
};

enum class OnDamage { error, previous };

struct ResumeOptions {
  std::optional<std::int64_t> step{};
  OnDamage on_damage = OnDamage::error;
  /// Rolls the run back: every step above the one that is resumed is given up, complete or
  /// damaged, durably and before the state changes. Takes the directory's lock, and waits for
  /// this checkpointer's saves first.
  bool discard_newer = false;
  /// Called with the merged state when all is read, verified and compared, and before anything
  /// changes. What it throws passes through.
  std::function<void(const Value& merged)> prepare{};
};

/// What the last `resume` did.
struct ResumeReport {
  struct Skipped {
    std::int64_t step;
    std::string reason;
  };
  std::int64_t step = 0;
  std::string source;
  std::string reader;  ///< how its bytes were read, and why so
  std::vector<Skipped> skipped;
  std::vector<std::int64_t> discarded;  ///< ascending; see ResumeOptions::discard_newer
};

class CheckpointerState;

/// One directory of steps. Reading needs no lock; the first save takes the
/// directory's lock for this process and clears what dead writers left.
/// Handles belong to the process that made them: in a forked child every call
/// throws Error(closed). Thread-safe.
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
  /// What the last successful resume did.
  std::optional<ResumeReport> resumed() const;

  /// Complete steps, ascending; the newest of them.
  std::vector<std::int64_t> steps() const;
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
  std::unique_ptr<CheckpointerState> state_;
};

}  // namespace understudy
