// A capture, step by step:
// 1. One pass over the state gives its structure and the bytes of its blobs.
// 2. The plan is reused when the structure is the last one's; else a new one
//    is made. The tree, which holds the scalars, is written anew each time; or, when
//    the caller knows that nothing else is new (again.h), the scalars in it are.
// 3. An image is leased. Its first bytes, the header's length, are zeroed: an
//    unfinished image is not a safetensors file.
// 4. The data section is filled: by all threads, before the call returns; or what
//    can be protected behind its back (overlapped.h), and the rest at once. The pages
//    of a new image are made in the same pass, by whoever fills them.
// The header is written when the snapshot is written: it holds the checksums.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/ticket.h"
#include "os/system.h"
#include "stage/snapshot.h"
#include "transfer/plan.h"

namespace understudy {

// What one call wants; for each attempt, `opaques` are those of the plan.
struct StagerState::Order {
  std::vector<Value>& opaques;
  std::shared_ptr<const void> sources;
  const std::shared_ptr<TicketState>& ticket;
  bool reports_progress;
  const OnEnd& on_end;
  double& waited_s;
};

StagerState::StagerState(const StagerOptions& options, memory::MakeImageFile make_file)
    : options_((check_options(options), options)),
      pool_(options.images, options.memory, std::move(make_file)),
      workers_("us-copy", options.threads > 0 ? options.threads : os::copying_threads()),
      overlapped_({options.capture, options.huge_pages, options.threads}) {}

// Closed first, so that a prewarming ends soon.
StagerState::~StagerState() {
  close();
}

namespace {

// The path of the tensor whose bytes lie at `offset` of the data section.
std::string tensor_at(const std::vector<std::string>& paths, const format::Layout& layout,
                      std::uint64_t offset) {
  std::string found = "a tensor";
  for (std::size_t leaf = 0; leaf < paths.size(); ++leaf) {
    const auto& entry = layout.entries[layout.leaves.views[leaf].entry];
    if (entry.begin <= offset && offset < entry.end) found = paths[leaf];
  }
  return found;
}

std::exception_ptr failure_of(const stage::Flight& flight, const std::vector<std::string>& paths,
                              const format::Layout& layout, const std::byte* data) {
  using Failure = stage::Flight::Failure;
  const auto why = flight.failure();
  if (why == Failure::none) return {};
  auto code = ErrorCode::invalid;
  if (why == Failure::late) code = ErrorCode::timeout;
  if (why == Failure::lost || why == Failure::refused) code = ErrorCode::io;
  if (why == Failure::no_space) code = ErrorCode::no_space;
  const auto chunk = flight.failed_chunk();
  const auto name = chunk
                        ? tensor_at(paths, layout, static_cast<std::uint64_t>(chunk->target - data))
                        : std::string("a tensor");
  return std::make_exception_ptr(Error(code, stage::describe_failure(why, name)));
}

// Makes the image's pages and fills them, out of the cache.
void fill_new(memory::Image& image, const format::Layout& layout, const transfer::Plan& plan,
              bool zero_gaps, WorkerPool& workers) {
  const auto first = layout.header_nbytes, last = first + layout.data_nbytes;
  image.prepare(workers, [&](std::uint64_t begin, std::uint64_t nbytes) {
    const auto from = std::max(begin, first), to = std::min(begin + nbytes, last);
    if (from < to) plan.fill(from - first, {image.data() + from, to - from}, zero_gaps);
  });
}

// What nothing was copied to: the rest of the last huge page.
void finish_pages(memory::Image& image) noexcept {
  std::uint64_t cursor = 0;
  try {
    while (image.prepare_piece(cursor)) {
    }
  } catch (const Error&) {
    // The next capture makes them, or says that there is no memory.
  }
}

// What the threads that copy write to.
struct Target {
  memory::Lease image;
  std::shared_ptr<TicketState> ticket;
};

}  // namespace

std::shared_ptr<Capturing> StagerState::capture(const Value& state, std::uint64_t number,
                                                const std::shared_ptr<TicketState>& ticket,
                                                bool reports_progress, OnEnd on_end) {
  std::vector<Value> opaques;
  double waited_s = 0;
  return capture_by(
      [&](bool) { return &last_plan_.plan_for(state, number, opaques); },
      {opaques, std::make_shared<const Value>(state), ticket, reports_progress, on_end, waited_s});
}

std::shared_ptr<Capturing> StagerState::capture(const Again& again,
                                                const std::shared_ptr<TicketState>& ticket,
                                                bool reports_progress, OnEnd on_end) {
  std::vector<Value> none;
  double waited_s = 0;
  return capture_by([&](bool once_more) { return last_plan_.plan_for(again, once_more); },
                    {none, again.owners, ticket, reports_progress, on_end, waited_s});
}

// Who waits holds nothing that others want, and may call the stager meanwhile (a signal's
// handler that saves, a finalizer): so an attempt that cannot go on is given up and made anew.
template <class Plan>
std::shared_ptr<Capturing> StagerState::capture_by(const Plan& plan_once_more, const Order& order) {
  home_.require("a stager");
  for (bool once_more = false;; once_more = true) {
    auto slot = pool_.take_slot(options_.when_busy, order.waited_s);
    {
      std::lock_guard one_at_a_time(mutex_);
      const stage::StatePlan* const plan = plan_once_more(once_more);
      if (plan == nullptr) return nullptr;
      if (!slot) pool_.fail_busy();
      if (!once_more) overlapped_.look_at_cores();
      if (auto begun = begin(order, *plan, std::move(slot))) return begun;
    }
    overlapped_.wait(order.waited_s);
  }
}

// Steps 3 and 4. Null when an earlier capture must end first.
std::shared_ptr<Capturing> StagerState::begin(const Order& order, const stage::StatePlan& plan,
                                              memory::ImagePool::Slot slot) {
  const auto& ticket = order.ticket;
  SnapshotState::Contents contents;
  contents.opaques = order.opaques;
  contents.tree = plan.tree;
  const auto layout = contents.layout = plan.layout;
  const auto lease = contents.image = pool_.lease(std::move(slot), layout->file_nbytes());
  auto& image = *lease;
  // It was sealed at the length of what it held.
  if (!image.file_name().empty()) image.set_file_length(image.capacity());
  const bool is_zeroed = image.layout_id == 0 || image.layout_id == plan.layout_id;
  image.layout_id = memory::Image::kUnknownLayout;
  auto* const data = image.data() + layout->header_nbytes;
  // Pages that are to be pinned are all made first.
  if (image.is_to_be_pinned()) image.prepare(workers_);
  auto* const new_image = image.is_prepared() ? nullptr : &image;
  if (new_image != nullptr) image.touch(0, layout->header_nbytes);
  std::memset(image.data(), 0, format::kPrefixNbytes);
  // Zeros up to the next page boundary, where direct writes end.
  const auto end = layout->file_nbytes();
  const auto tail_nbytes = std::min(image.capacity() - end, format::kAlignment);
  if (new_image != nullptr) image.touch(end, tail_nbytes);
  std::memset(image.data() + end, 0, tail_nbytes);
  std::shared_ptr<Capturing> capturing =
      make_home<Capturing>(Snapshot(std::make_shared<SnapshotState>(std::move(contents))));
  const auto finish = [ticket, capturing, on_end = order.on_end](std::exception_ptr failure) {
    if (!failure) ticket->set_captured();
    capturing->end(failure);
    on_end(*capturing, failure);
  };
  const auto begun =
      overlapped_.begin({.plan = plan.transfer,
                         .plan_id = plan.places_id,
                         .data = data,
                         .zero_gaps = !is_zeroed,
                         .new_image = new_image,
                         .workers = workers_,
                         .sources = order.sources,
                         .target = std::make_shared<Target>(Target{lease, ticket}),
                         .progress = order.reports_progress ? &ticket->done_nbytes : nullptr,
                         .on_end = [ticket, finish, layout, data, new_image,
                                    paths = plan.paths](const stage::Flight& flight) {
                           const bool is_whole = flight.failure() == stage::Flight::Failure::none;
                           if (new_image != nullptr && is_whole) finish_pages(*new_image);
                           {
                             std::lock_guard lock(ticket->mutex);
                             ticket->metrics.faults = flight.faults();
                             ticket->metrics.faults_nbytes = flight.fault_nbytes();
                             if (new_image != nullptr)
                               ticket->metrics.memory = new_image->describe();
                           }
                           finish(failure_of(flight, *paths, *layout, data));
                         }});
  if (begun.must_wait) return nullptr;
  if (!begun.is_under_way) {
    if (new_image != nullptr) {
      fill_new(image, *layout, plan.transfer, !is_zeroed, workers_);
    } else {
      plan.transfer.fill_all(data, !is_zeroed, workers_);
    }
  }
  image.layout_id = plan.layout_id;
  {
    std::lock_guard lock(ticket->mutex);
    ticket->metrics.nbytes = end;
    ticket->metrics.waited_s = order.waited_s;
    ticket->metrics.memory = image.describe();
    ticket->metrics.plan = plan.origin;
    ticket->metrics.at_once_nbytes =
        begun.is_under_way ? begun.at_once_nbytes : layout->data_nbytes;
    ticket->capture = begun.capture;
  }
  if (!begun.is_under_way) finish({});
  return capturing;
}

void StagerState::prewarm(const Value& state, std::shared_ptr<TicketState> ticket,
                          std::shared_ptr<std::optional<std::uint64_t>> result) {
  home_.require("a stager");
  std::lock_guard one_at_a_time(mutex_);
  std::vector<Value> opaques;
  const auto nbytes = last_plan_.plan_for(state, 0, opaques).layout->file_nbytes();
  ticket->total_nbytes = nbytes * static_cast<std::uint64_t>(options_.images);
  prewarmer_.post([this, nbytes, ticket, result] {
    try {
      std::uint64_t made = 0;
      pool_.prewarm(nbytes, [&](std::uint64_t piece) { ticket->done_nbytes = made += piece; });
      ticket->total_nbytes = made;
      *result = made;
      ticket->set_done();
    } catch (...) {
      ticket->set_failed(std::current_exception());
    }
  });
}

void StagerState::close() {
  if (!home_.is_here()) return;
  pool_.close();
}

}  // namespace understudy
