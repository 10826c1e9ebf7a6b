// Mirror: memory for whole copies of storages, pooled by size, and the copying.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "understudy/options.h"
#include "understudy/tensor.h"

namespace understudy {

/// Host memory for the copy of one storage, or of several small ones. When the
/// last owner is gone, on any thread, a private one returns to its mirror's pool
/// and a shared one is given back: another process may still have it mapped.
struct Buffer {
  std::byte* data = nullptr;  ///< 64-byte aligned; null when nbytes is 0
  std::uint64_t nbytes = 0;   ///< size in bytes
  /// Of a shared buffer: a memfd with its bytes from offset 0, open as long as
  /// the buffer lives. Else -1.
  int fd = -1;
};

/// What a mirror's buffers are made of.
struct MirrorOptions {
  /// pageable: private memory, and what automatic takes. pinned: the same, page-
  /// locked. shared: other processes can map it.
  Memory memory = Memory::automatic;
  /// Page-locks shared memory, too, for copies from CUDA devices.
  bool pin = false;
  /// Smaller buffers are not page-locked.
  std::uint64_t pin_min_nbytes = 0;
  int threads = 0;  ///< copying threads; 0: the cores this process may use
};

/// Keeps storages' copies in buffers that are used again. A snapshot packs what
/// tensors use into one image; a mirror copies storages whole, so that offsets,
/// strides and sizes of storages stay as they are. Thread-safe; one `copy` at a
/// time. Not copyable.
class Mirror {
 public:
  /// Throws Error(invalid), and Error(unsupported) where memory is to be pinned
  /// and there is no CUDA device.
  explicit Mirror(MirrorOptions options = {});
  ~Mirror();  ///< gives back the free buffers; others live on until their last owner is gone

  /// A buffer of exactly `nbytes`, from the pool if there is one of that size.
  /// What it holds is unspecified. Throws Error(no_space) with the bytes that are
  /// missing. A large one has addresses only, until `copy` writes into it.
  std::shared_ptr<const Buffer> take(std::uint64_t nbytes);

  /// Makes the pages of fresh buffers that `copies` go to, and pins them: for
  /// copies that somebody else makes. Throws Error(no_space), Error(io).
  void prepare(const std::vector<ByteCopy>& copies);

  /// Copies all, on all threads, shared out by bytes. Waits until it is done.
  /// Prepares first: what that throws comes before a byte is copied.
  void copy(const std::vector<ByteCopy>& copies);

  /// Page-locks memory of somebody else's, which must not be freed before the
  /// last owner of the result is gone. Only with `pin`. Throws Error(no_space),
  /// Error(io).
  std::shared_ptr<const void> pin(std::byte* data, std::uint64_t nbytes);

  /// Gives back the free buffers that nobody has taken since the trim before.
  void trim();
  /// Gives back all free buffers, and until the next `take` those in use when
  /// their last owner is gone.
  void clear();
  /// Bytes of all buffers, in use and free.
  std::uint64_t nbytes() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// A shared buffer of another process, by a descriptor that came from there. It is
/// mapped, not copied: each sees what the other writes. Takes the descriptor, also
/// when it throws: Error(invalid) where it has fewer bytes, Error(no_space).
std::shared_ptr<const Buffer> map_buffer(int fd, std::uint64_t nbytes);

}  // namespace understudy
