// What keeps the trainer from changing pages that are not captured yet. One in a
// process, because a range of memory can be registered once only; all stagers
// share it, one flight at a time.
//
// Its threads (who waits for whom):
// - copiers and the server do a flight's work (flight.h). They wait for nobody: a
//   writer that waits for a page may hold any lock, the GIL and malloc's included.
// - the watch waits for them, with a limit. It alone ends a flight: it lifts what
//   is left, waits until every thread has left the flight, so that no late one
//   looks into the tables of the next, and tells the outcome. Nothing is
//   protected by then, so that it may take locks.
// - who wants to begin a flight waits for the last one to end, holding no lock.
// Where threads do not leave (the limit again), the outcome is told all the same,
// and the fence is `stuck` until they do: captures are blocking meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/worker_pool.h"
#include "stage/flight.h"

namespace understudy::stage {

class PageFence {
 public:
  /// A share in the fence of this process, which is made for the first and ends
  /// with the last. In a forked child it does nothing.
  class Share {
   public:
    /// Throws Error(unsupported) with the reason where there can be none.
    Share();
    ~Share();
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    PageFence* operator->() const noexcept { return fence_; }

   private:
    friend class PageFence;
    static void before_fork();
    static void after_fork_in_parent();
    static void after_fork_in_child();

    PageFence* fence_;
    HomeProcess home_;
  };

  /// The right to begin the next flight.
  class Turn {
   public:
    explicit Turn(PageFence& fence) : fence_(fence) {}
    ~Turn();  ///< gives it back, unless a flight was begun; lifts what was protected
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    /// Registers whole mappings. False when somebody else's userfaultfd has it.
    bool add(std::uintptr_t begin, std::uintptr_t end);
    /// Makes a flight and protects all its chunks, on all threads of `workers`.
    /// Nothing when a mapping is not registered; then nothing is protected.
    std::shared_ptr<Flight> protect(std::vector<PageRun> runs, int copiers, WorkerPool& workers);
    /// From here on the fence works on what was protected; the turn is over.
    /// The flight's on_end, sources and target must be set.
    void begin();

   private:
    PageFence& fence_;
    std::shared_ptr<Flight> protected_;
    bool is_over_ = false;
  };

  /// Nothing while a flight is under way; or with a reason, because there can be none. Throws
  /// Error(no_space) where the system refuses its threads.
  std::unique_ptr<Turn> take_turn(std::string& why_not);
  /// Waits awake (base/waiting.h) until a turn can be taken or refused, adding to `waited_s`.
  void wait_for_turn(double& waited_s);

  /// Ticks of the watch without any progress after which it gives up. For tests.
  void set_late_ticks(int ticks);

 private:
  struct State;
  PageFence();
  ~PageFence();

  std::unique_ptr<State> state_;
};

}  // namespace understudy::stage
