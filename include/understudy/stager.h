// Stager and Snapshot: a consistent copy of a state in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "understudy/again.h"
#include "understudy/options.h"
#include "understudy/ticket.h"
#include "understudy/value.h"

namespace understudy {

/// How a Stager works.
struct StagerOptions {
  int images = 2;  ///< snapshots that may exist at once; each costs the state's size
  Memory memory = Memory::automatic;     ///< what images are made of
  Capture capture = Capture::automatic;  ///< how snapshots are taken
  WhenBusy when_busy = WhenBusy::wait;   ///< what `stage` does when every image is leased
  bool huge_pages = false;               ///< collapse overlapped storages into huge pages, once
  int threads = 0;                       ///< copying threads; 0: the cores this process may use
};

class SnapshotState;

/// A sealed, immutable copy. Leases its image until closed and until the last
/// tensor from `state()` is gone. Copies share the lease. Thread-safe.
class Snapshot {
 public:
  /// For the library's own use: stagers make snapshots.
  explicit Snapshot(std::shared_ptr<SnapshotState> state) : state_(std::move(state)) {}

  /// The captured tree. Tensors lie over a private copy-on-write mapping of
  /// the image: no copy is made, and writing to them changes nothing else.
  Value state() const;
  /// Bytes of the image. A file of it has as many, or more where tensors that share memory, or have
  /// other strides than C order, become entries of their own.
  std::uint64_t nbytes() const;
  /// Writes it as one safetensors file; durable when it returns.
  /// Throws Error(unsupported) with the path of an opaque leaf.
  void save_file(const std::filesystem::path& path, const FileMetadata& metadata = {}) const;
  /// Ends the lease, for all handles of this snapshot. Later calls throw Error(closed).
  void close();

  /// For the library's own use.
  const std::shared_ptr<SnapshotState>& shared_state() const { return state_; }

 private:
  std::shared_ptr<SnapshotState> state_;
};

class StagerState;

/// Makes snapshots; keeps its plan and its images between calls. One `stage`
/// at a time: a second thread waits. Not copyable.
class Stager {
 public:
  /// Makes no image yet. Throws Error(invalid), Error(unsupported).
  explicit Stager(StagerOptions options = {});
  ~Stager();  ///< closes
  Stager(Stager&&) noexcept;
  Stager& operator=(Stager&&) noexcept;

  /// Captures `state`. No thread may write the state while this runs; what is
  /// written after it returns is never in the snapshot. An overlapped capture goes
  /// on after the call, and the ticket is done when it is complete; storages are
  /// held until then, and one that is freed or resized all the same is
  /// Error(invalid) with its path. Everything is captured or nothing is. With WhenBusy::skip and no
  /// free image the ticket is done and its wait() throws Error(busy).
  /// `number` names the state for a later `stage_again`; 0: there will be none.
  Ticket<Snapshot> stage(const Value& state, std::uint64_t number = 0);

  /// The same for the state of the last call, with what has changed in it. Nothing was done
  /// when it gives nothing: another state was staged in between, the scalars need
  /// more room than they had, or a tensor that has moved shares its bytes.
  std::optional<Ticket<Snapshot>> stage_again(const Again& again);

  /// Makes all images ready for states like this one, in the background and at
  /// low priority: the first touch of memory is dearer than the copy. For those
  /// who want it done before the first step; a `stage` in the meantime does the
  /// rest itself. Copies nothing. The result is the bytes of memory made ready.
  Ticket<std::uint64_t> prewarm(const Value& state);

  /// Gives the images back (leased ones when their leases end).
  void close();

 private:
  std::shared_ptr<StagerState> state_;
};

}  // namespace understudy
