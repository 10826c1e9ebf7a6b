// Checkpointer: the front door. Save, restore, resume, retention.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "understudy/stager.h"
#include "understudy/ticket.h"
#include "understudy/value.h"

namespace understudy {

struct CheckpointerOptions {
  std::filesystem::path directory;
  std::optional<int> keep{};  ///< newest complete steps kept; absent: all
  Memory memory = Memory::automatic;
  bool survive = false;
  Capture capture = Capture::automatic;
  int images = 2;
  WhenBusy when_busy = WhenBusy::wait;
  bool huge_pages = false;
  int threads = 0;
  bool allow_pickle = false;  ///< for reading steps that carry pickled objects
};

struct SaveOptions {
  /// Kept in the manifest. JSON types only: none, booleans, integers, finite
  /// floats, texts, lists, dicts with text keys.
  Value metadata{};
  bool overwrite = false;  ///< replace a step that exists; else that is Error(invalid)
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
};

enum class OnDamage { error, previous };

struct ResumeOptions {
  std::optional<std::int64_t> step{};
  OnDamage on_damage = OnDamage::error;
};

/// What the last `resume` did.
struct ResumeReport {
  struct Skipped {
    std::int64_t step;
    std::string reason;
  };
  std::int64_t step = 0;
  std::string source;
  std::vector<Skipped> skipped;
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
  Ticket<std::filesystem::path> save(std::int64_t step, const Value& state,
                                     const SaveOptions& options = {});

  /// Reads a step into new tensors. Throws Error(not_found) when there is none,
  /// Error(corrupt) with the newest whole step when it is damaged.
  Checkpoint restore(const RestoreOptions& options = {});

  /// Reads the newest step into `state`, in place: 1. every byte is read and
  /// verified; 2. the trees are compared and every Loadable is asked; 3. only
  /// then Loadables take their parts and tensors are overwritten. On return
  /// `state` holds the restored scalars over the same tensors. Returns nothing
  /// when the directory has no step.
  std::optional<std::int64_t> resume(Value& state, const ResumeOptions& options = {});
  /// What the last successful resume did.
  std::optional<ResumeReport> resumed() const;

  /// Complete steps, ascending; the newest of them.
  std::vector<std::int64_t> steps() const;
  std::optional<std::int64_t> latest() const;

  /// Waits for all saves; throws the first failure that nobody has seen.
  /// Returns false when the time ran out first.
  bool wait(Timeout timeout = {});
  /// Waits as `wait` does, then ends. Safe to call again.
  void close();

  const std::filesystem::path& directory() const;

 private:
  std::unique_ptr<CheckpointerState> state_;
};

}  // namespace understudy
