// Overlapped capture: what of a plan is copied after the call has returned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/image.h"
#include "stage/idle_cores.h"
#include "stage/page_fence.h"
#include "transfer/plan.h"
#include "understudy/options.h"

namespace understudy::stage {

/// A run below this is copied at once: protecting, lifting and looking after it
/// (three system calls, 6 us) costs more than its copy (64 KiB: 3 us).
inline constexpr std::uint64_t kProtectedNbytes = std::uint64_t{64} << 10;

/// Parts of a plan, in bytes.
struct Selection {
  struct Pages {
    std::uintptr_t source = 0;
    std::uint64_t target = 0;  ///< in the data section
    std::uint64_t nbytes = 0;
  };
  std::vector<Pages> behind;                 ///< whole pages, ascending by source
  std::vector<transfer::DataRange> at_once;  ///< all else, ascending
  std::uint64_t behind_nbytes = 0;
  std::uint64_t small_nbytes = 0;  ///< of at_once: ends of pages, small and strided tensors, texts
  std::uint64_t refused_nbytes = 0;  ///< of at_once: memory that cannot be protected
  std::string refused;               ///< what it is: "file mappings, shared memory"
  std::uint64_t huge_pages = 0;      ///< blocks that are huge pages now, where they were asked for
};

/// Looks at the mappings under the plan, and registers those that can be
/// protected. With `huge_pages` collapses them first.
Selection select_pages(const transfer::Plan& plan, PageFence::Turn& turn, bool huge_pages);

struct OverlappedOptions {
  Capture capture = Capture::automatic;
  bool huge_pages = false;
  int threads = 0;
};

/// One stager's way to the fence.
class Overlapped {
 public:
  /// Where the fence cannot be had: throws Error(unsupported) for
  /// Capture::overlapped, else keeps the reason.
  explicit Overlapped(const OverlappedOptions& options);

  struct Work {
    const transfer::Plan& plan;
    std::uint64_t plan_id;  ///< the same for the same plan; never 0
    std::byte* data;        ///< where the data section goes
    bool zero_gaps;
    /// The image that `data` lies in, when it has no pages yet; kept by `target`. They are made
    /// behind the call. Else null.
    memory::Image* new_image;
    WorkerPool& workers;
    std::shared_ptr<const void> sources, target;
    std::atomic<std::uint64_t>* progress;
    Flight::OnEnd on_end;
  };
  struct Begun {
    bool is_under_way = false;  ///< on_end will be called; else nothing was done
    /// Nothing was done: an earlier flight is under way. After `wait` it can be tried again.
    bool must_wait = false;
    std::string capture{};  ///< for the ticket
    std::uint64_t at_once_nbytes = 0;
  };

  /// Looks how many cores have been idle since the last time: once a capture.
  void look_at_cores();
  /// Protects, copies at once what must be, and leaves the rest to the fence.
  Begun begin(Work work);
  /// Waits for the end of the flight that is under way, of whatever stager, adding to `waited_s`.
  void wait(double& waited_s);

 private:
  bool is_wanted() const;
  std::string why_blocking_is_better(const Work& work);
  void make_pages_at_once(const Work& work) const;
  std::string why_not() const;
  std::shared_ptr<Flight> protect(PageFence::Turn& turn, const Work& work, std::string& why);
  std::string describe() const;

  const OverlappedOptions options_;
  std::optional<PageFence::Share> fence_;
  std::string reason_;  // why there is none
  IdleCores idle_;
  double idle_now_ = 0;
  int copiers_;
  std::uint64_t plan_id_ = 0;
  Selection selection_;  // for that plan
};

/// What failed, as a sentence about the tensor `name`.
std::string describe_failure(Flight::Failure failure, const std::string& name);

}  // namespace understudy::stage
