// One overlapped capture under way: protected runs of pages, cut into chunks,
// each of which is copied once and then lifted.
//
// 1. Every chunk is protected before the flight begins, and begins as `waiting`.
// 2. Whoever wants to copy a chunk claims it by one compare-and-swap: a copier
//    takes the next one, the server the one that a writer waits for.
// 3. It copies the bytes by a copy that cannot fault, straight into the image. Past
//    a buffer in the cache and streaming stores it took 1.3 times the processor time.
// 4. It asks the kernel whether every page of the chunk is still protected.
//    Protection is never renewed in a flight, so pages that are protected now have
//    held the bytes of the instant until now. Else the copy is worth nothing:
//    the flight has failed.
// 5. It lifts the chunk, which wakes its writers, and marks it `done`.
// The flight has ended when all chunks are done, or with the first failure; then
// everything is lifted. Nothing here allocates or takes a lock between 1 and the
// end, because a writer that waits may hold any lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "os/event.h"
#include "vm/write_protection.h"

namespace understudy::stage {

/// Whole pages, and where their bytes go.
struct PageRun {
  std::uintptr_t source = 0;
  std::byte* target = nullptr;
  std::uint64_t nbytes = 0;

  std::uintptr_t end() const noexcept { return source + nbytes; }
};

/// Chunks do not cross multiples of this: lifting a part of a huge page would
/// split it for good. A fault costs its writer 0.27 ms then, 0.1 ms with chunks
/// of 4 KiB.
inline constexpr std::uint64_t kChunkNbytes = std::uint64_t{2} << 20;

class Flight {
 public:
  enum class Failure : std::uint8_t {
    none,
    unmapped,     ///< a source is not mapped any more
    unprotected,  ///< a source was dropped, mapped anew or lifted by somebody else
    late,         ///< nobody copied or served for too long
    lost,         ///< a descriptor is no longer ours
    refused,      ///< this process may not copy in the way it did any more
    no_space,     ///< there is no memory for the pages that are copied to
  };

  /// What it came to. Called once, by the thread that keeps watch, when nothing
  /// is protected any more.
  using OnEnd = std::function<void(const Flight&)>;

  /// `runs` ascend and do not overlap. `news` is set at the end, and whenever a
  /// thread leaves. `copiers` is how many threads may copy beside the server.
  Flight(vm::WriteProtection& protection, os::Event& news, std::vector<PageRun> runs, int copiers);

  /// Step 1, a part of it: all chunks from `first` on, at most `count`. False
  /// when a mapping is not registered.
  bool protect(std::size_t first, std::size_t count) noexcept;
  std::size_t chunks() const noexcept { return chunks_.size(); }

  /// Copies the next chunk that waits; false when there is none.
  bool copy_next() noexcept;
  /// Lets a writer at `address` go on as soon as may be.
  void serve(std::uintptr_t address) noexcept;
  /// The first failure counts. `chunk`: which, if any.
  void fail(Failure failure, std::optional<std::size_t> chunk = {}) noexcept;
  /// Lifts what is not done.
  void lift_all() noexcept;
  /// A thread has no more to do with this flight.
  void leave() noexcept;

  bool has_ended() const noexcept {
    return left_.load(std::memory_order_acquire) == 0 || failure() != Failure::none;
  }
  Failure failure() const noexcept {
    return static_cast<Failure>(failed_.load(std::memory_order_acquire) & 0xff);
  }
  /// The source of the failure; nothing when it is no source's fault.
  std::optional<PageRun> failed_chunk() const noexcept;

  std::uint64_t done_nbytes() const noexcept {
    return done_nbytes_.load(std::memory_order_relaxed);
  }
  std::uint64_t faults() const noexcept { return faults_.load(std::memory_order_relaxed); }
  std::uint64_t fault_nbytes() const noexcept {
    return fault_nbytes_.load(std::memory_order_relaxed);
  }
  std::uint64_t nbytes() const noexcept { return nbytes_; }
  int copiers() const noexcept { return copiers_; }

  /// Makes the pages that a chunk is copied to, where there are none yet; false when there is
  /// no memory. By whoever copies: waits for nobody, and allocates nothing of malloc's.
  std::function<bool(std::byte* target, std::uint64_t nbytes)> make_pages;
  OnEnd on_end;
  std::shared_ptr<const void> sources;             ///< what keeps them; ends before on_end
  std::shared_ptr<const void> target;              ///< what keeps it; ends with the last thread
  std::atomic<int> inside{0};                      ///< threads that have not left
  std::atomic<std::uint64_t>* progress = nullptr;  ///< bytes done are added; kept by `target`

 private:
  enum class State : std::uint8_t { waiting, claimed, done };
  struct Chunk {
    PageRun run;
    std::atomic<State> state{State::waiting};
  };

  bool claim(Chunk& chunk) noexcept;
  Failure copy_bytes(const PageRun& run) const noexcept;
  bool copy(std::size_t index) noexcept;

  vm::WriteProtection& protection_;
  os::Event& news_;
  std::vector<Chunk> chunks_;  // ascending
  std::uint64_t nbytes_ = 0;
  const int copiers_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> left_;
  std::atomic<std::uint64_t> failed_{0};  // Failure, and from bit 8 on the chunk plus 1
  std::atomic<std::uint64_t> done_nbytes_{0}, faults_{0}, fault_nbytes_{0};
};

}  // namespace understudy::stage
