#include "stage/overlapped.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "device/pinned_memory.h"
#include "os/system.h"
#include "vm/memory_map.h"
#include "vm/pages.h"

namespace understudy::stage {
namespace {

// With less than this to protect, `automatic` does not overlap: the stop is no
// shorter (blocking / overlapped with small / huge pages, two cores: 64 MiB 3.0 /
// 4.9 / 3.5 ms; 128 MiB 6.2 / 5.8 / 4.4; 256 MiB 13.2 / 8.6 / 1.2).
constexpr std::uint64_t kWorthwhileNbytes = std::uint64_t{128} << 20;

// `automatic` overlaps with this many idle cores: for a copier and for the server.
// Measured on two cores, time lost to a capture of 1 GiB (overlapped / blocking):
// 156 / 61 ms with none idle, 104 / 49 with one; of 512 MiB 1 / 42 with 1.5.
constexpr double kIdleCores = 1.5;

std::string mib(std::uint64_t nbytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(nbytes) / double(1 << 20));
}

std::string_view name_of(vm::MappedRange::Kind kind) {
  switch (kind) {
    case vm::MappedRange::Kind::shared: return "shared memory";
    case vm::MappedRange::Kind::file: return "file mappings";
    case vm::MappedRange::Kind::special: return "stacks or read-only memory";
    case vm::MappedRange::Kind::anonymous: break;
  }
  return "memory of another userfaultfd";
}

// Registers whole mappings, each once; empty, or what cannot be registered.
class Registrar {
 public:
  explicit Registrar(PageFence::Turn& turn)
      : turn_(turn), mappings_(vm::MemoryMap::of_this_process()) {}

  std::string_view add(std::uintptr_t begin, std::uintptr_t end) {
    if (pinned_.holds(reinterpret_cast<const void*>(begin))) return "pinned memory";
    const auto found = mappings_.covering(begin, end);
    if (found.empty()) return "memory that is not mapped";
    for (const auto& mapping : found) {
      const bool is_plain = mapping.kind == vm::MappedRange::Kind::anonymous;
      if (!is_plain || !add_whole(mapping)) return name_of(mapping.kind);
    }
    return {};
  }

 private:
  bool add_whole(const vm::MappedRange& mapping) {
    const auto [at, is_new] = added_.try_emplace(mapping.begin, true);
    if (is_new) at->second = turn_.add(mapping.begin, mapping.end);
    return at->second;
  }

  PageFence::Turn& turn_;
  const device::PinnedMemory pinned_;
  const vm::MemoryMap mappings_;
  std::map<std::uintptr_t, bool> added_;
};

// What is left of [0, nbytes) without `taken`, which ascend.
std::vector<transfer::DataRange> complement(std::uint64_t nbytes,
                                            const std::vector<transfer::DataRange>& taken) {
  std::vector<transfer::DataRange> rest;
  std::uint64_t at = 0;
  for (const auto& range : taken) {
    if (range.begin > at) rest.push_back({at, range.begin - at});
    at = range.begin + range.nbytes;
  }
  if (nbytes > at) rest.push_back({at, nbytes - at});
  return rest;
}

}  // namespace

Selection select_pages(const transfer::Plan& plan, PageFence::Turn& turn, bool huge_pages) {
  const auto page = vm::page_nbytes();
  Selection s;
  Registrar registrar(turn);
  std::set<std::string_view> refused;
  std::vector<transfer::DataRange> taken;
  for (const auto& run : plan.tensor_runs()) {
    const auto source = reinterpret_cast<std::uintptr_t>(run.source);
    const auto begin = (source + page - 1) / page * page;
    const auto end = (source + run.target.nbytes) / page * page;
    if (end < begin + kProtectedNbytes) continue;
    if (const auto why = registrar.add(begin, end); !why.empty()) {
      refused.insert(why);
      s.refused_nbytes += run.target.nbytes;
      continue;
    }
    if (huge_pages) s.huge_pages += vm::collapse_each(begin, end);
    const auto target = run.target.begin + (begin - source);
    s.behind.push_back({begin, target, end - begin});
    s.behind_nbytes += end - begin;
    taken.push_back({target, end - begin});
  }
  s.at_once = complement(plan.data_nbytes(), taken);
  s.small_nbytes = plan.data_nbytes() - s.behind_nbytes - s.refused_nbytes;
  s.refused = fmt::format("{}", fmt::join(refused, ", "));
  std::sort(s.behind.begin(), s.behind.end(),
            [](const auto& a, const auto& b) { return a.source < b.source; });
  return s;
}

Overlapped::Overlapped(const OverlappedOptions& options)
    : options_(options),
      idle_(os::cores_of_this_rank(), IdleCores::Clocks::now()),
      copiers_(options.threads > 0 ? options.threads : os::usable_cores()) {
  if (options.capture == Capture::blocking) {
    reason_ = "as asked";
    return;
  }
  try {
    fence_.emplace();
  } catch (const Error& e) {
    if (options.capture == Capture::overlapped) {
      fail(ErrorCode::unsupported, "capture 'overlapped' is not possible here: {}", e.what());
    }
    reason_ = e.what();
  }
}

// Huge pages are asked for to shorten the stop, and serve nothing else.
bool Overlapped::is_wanted() const {
  return options_.capture == Capture::overlapped || options_.huge_pages;
}

// Where the choice is ours: what overlapping would cost training more than a stop.
std::string Overlapped::why_blocking_is_better(const Work& work) {
  if (is_wanted()) return {};
  // Making the pages of a new image takes many times as long as copying: never in the call.
  if (idle_now_ < kIdleCores && work.new_image == nullptr) {
    return fmt::format("{:.1f} of {} cores were idle, and overlapping needs two", idle_now_,
                       idle_.cores());
  }
  if (options_.threads == 0) copiers_ = std::max(1, static_cast<int>(idle_now_));
  return {};
}

// Why the selection is not worth a flight; empty when it is.
std::string Overlapped::why_not() const {
  const auto& s = selection_;
  const bool is_asked = options_.capture == Capture::overlapped;
  if (s.behind_nbytes >= (is_asked ? 1 : kWorthwhileNbytes)) return {};
  const auto reason = fmt::format("{} could be protected{}{}", mib(s.behind_nbytes),
                                  s.refused.empty() ? "" : "; not ", s.refused);
  if (is_asked && s.refused_nbytes > 0) {
    fail(ErrorCode::unsupported, "capture 'overlapped' is not possible for this state: {}", reason);
  }
  return reason;
}

// Of a new image: those that are written before the call returns.
void Overlapped::make_pages_at_once(const Work& work) const {
  if (work.new_image == nullptr) return;
  const auto header = static_cast<std::uint64_t>(work.data - work.new_image->data());
  std::vector<transfer::DataRange> pieces;  // of the image, to be shared out among threads
  for (const auto& range : selection_.at_once) {
    const auto end = header + range.begin + range.nbytes;
    for (auto at = header + range.begin; at < end;) {
      const auto next = std::min(end, at / kChunkNbytes * kChunkNbytes + kChunkNbytes);
      pieces.push_back({at, next - at});
      at = next;
    }
  }
  work.workers.run(pieces.size(), [&](std::uint64_t i, int) {
    work.new_image->touch(pieces[i].begin, pieces[i].nbytes);
  });
}

// Protects the selection for this plan. Where a mapping is not registered (memory
// was mapped anew at the same place) looks again, once. Null when that does not
// help, or when there is nothing to protect.
std::shared_ptr<Flight> Overlapped::protect(PageFence::Turn& turn, const Work& work,
                                            std::string& why) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (plan_id_ != work.plan_id || attempt > 0) {
      plan_id_ = 0;
      try {
        selection_ = select_pages(work.plan, turn, options_.huge_pages);
      } catch (const Error& e) {  // no descriptor is left to look at the mappings, for example
        why = e.what();
        return nullptr;
      }
      plan_id_ = work.plan_id;
    }
    if (why = why_not(); !why.empty()) return nullptr;
    std::vector<PageRun> runs;
    runs.reserve(selection_.behind.size());
    for (const auto& p : selection_.behind) {
      runs.push_back({p.source, work.data + p.target, p.nbytes});
    }
    make_pages_at_once(work);
    if (auto flight = turn.protect(std::move(runs), copiers_, work.workers)) return flight;
  }
  plan_id_ = 0;
  why = "memory under the state is being mapped anew";
  return nullptr;
}

std::string Overlapped::describe() const {
  const auto& s = selection_;
  auto text = fmt::format("overlapped ({} behind the call, {} at once", mib(s.behind_nbytes),
                          mib(s.small_nbytes + s.refused_nbytes));
  if (!s.refused.empty()) {
    text += fmt::format(", {} of it because it is {}", mib(s.refused_nbytes), s.refused);
  }
  if (options_.huge_pages) text += fmt::format("; {} huge pages", s.huge_pages);
  return text + ")";
}

void Overlapped::look_at_cores() {
  idle_now_ = idle_.since_last(IdleCores::Clocks::now());
}

void Overlapped::wait(double& waited_s) {
  (*fence_)->wait_for_turn(waited_s);
}

Overlapped::Begun Overlapped::begin(Work work) {
  const auto refuse = [](const std::string& reason) {
    return Begun{.capture = fmt::format("blocking ({})", reason)};
  };
  if (!fence_) return refuse(reason_);
  if (options_.capture != Capture::overlapped && work.plan.data_nbytes() < kWorthwhileNbytes) {
    return refuse(fmt::format("{} are copied as soon as protected", mib(work.plan.data_nbytes())));
  }
  if (const auto reason = why_blocking_is_better(work); !reason.empty()) return refuse(reason);
  if (plan_id_ == work.plan_id) {
    if (const auto reason = why_not(); !reason.empty()) return refuse(reason);
  }
  std::string never;
  std::unique_ptr<PageFence::Turn> turn;
  try {
    turn = (*fence_)->take_turn(never);
  } catch (const Error& e) {
    if (options_.capture == Capture::overlapped) throw;
    never = e.what();
  }
  if (!turn) return never.empty() ? Begun{.must_wait = true} : refuse(never);
  std::string why;
  const auto flight = protect(*turn, work, why);
  if (!flight) return refuse(why);
  work.plan.fill_ranges(selection_.at_once, work.data, work.zero_gaps, work.workers);
  const auto at_once_nbytes = selection_.small_nbytes + selection_.refused_nbytes;
  flight->progress = work.progress;
  if (work.progress != nullptr) {
    work.progress->fetch_add(at_once_nbytes, std::memory_order_relaxed);
  }
  if (auto* const image = work.new_image) {
    flight->make_pages = [image](std::byte* target, std::uint64_t nbytes) noexcept {
      try {
        image->touch_ahead(static_cast<std::uint64_t>(target - image->data()), nbytes);
        return true;
      } catch (const Error&) {
        return false;
      }
    };
  }
  flight->sources = std::move(work.sources);
  flight->target = std::move(work.target);
  flight->on_end = std::move(work.on_end);
  turn->begin();
  return {.is_under_way = true, .capture = describe(), .at_once_nbytes = at_once_nbytes};
}

std::string describe_failure(Flight::Failure failure, const std::string& name) {
  using Failure = Flight::Failure;
  switch (failure) {
    case Failure::unmapped:
      return fmt::format("the memory of '{}' was freed or resized while it was captured", name);
    case Failure::unprotected:
      return fmt::format(
          "the memory of '{}' was freed, resized or mapped anew while it was captured", name);
    case Failure::late:
      return "copying did not go on for too long, so that the protection of the state was lifted "
             "before it was captured";
    case Failure::lost:
      return "somebody closed the descriptor that protects the state before it was captured";
    case Failure::refused:
      return "this process lost the right to process_vm_writev before the state was captured";
    case Failure::no_space:
      return fmt::format("there is no memory for a copy of '{}' in a new image", name);
    case Failure::none: break;
  }
  return {};
}

}  // namespace understudy::stage
