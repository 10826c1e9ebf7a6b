// A capture, step by step:
// 1. One pass over the state gives its structure and the bytes of its blobs.
// 2. The plan is reused when the structure is the last one's; else a new one
//    is made. The tree, which holds the scalars, is written anew each time; or, when
//    the caller knows that nothing else is new (again.h), the scalars in it are.
// 3. An image is leased, and its pages are made if it is new (where nothing is to be
//    overlapped, 4 is done in the same pass, out of the cache). Its first bytes, the
//    header's length, are zeroed: an unfinished image is not a safetensors file.
// 4. The data section is filled: by all threads, before the call returns; or what
//    can be protected behind its back (overlapped.h), and the rest at once.
// The header is written when the snapshot is written: it holds the checksums.
#include "understudy/stager.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/ticket.h"
#include "os/system.h"
#include "stage/places.h"
#include "stage/snapshot.h"
#include "stage/structure.h"
#include "transfer/plan.h"
#include "value/extents.h"
#include "value/walk.h"

namespace understudy {

struct StagerState::Plan {
  std::string signature;
  std::shared_ptr<const format::Layout> layout;
  transfer::Plan transfer;
  stage::Places places;
  std::uint64_t layout_id;
  std::uint64_t places_id;
  /// Of the tensor leaves, for messages.
  std::shared_ptr<const std::vector<std::string>> paths;
  // Of the last state:
  std::string tree;
  std::vector<format::Span> scalars;  ///< in the tree
  std::uint64_t number = 0;           ///< as the caller gave it
  std::string origin = "new";         ///< for the ticket

  /// Those of `tensors`, in walk order, that lie elsewhere now.
  std::vector<stage::Move> moves_to(const std::vector<const Tensor*>& tensors) const {
    std::vector<stage::Move> moves;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto* const address = tensors[i]->data();
      if (address != places.address(i)) moves.emplace_back(i, address);
    }
    return moves;
  }
};

struct StagerState::Order {
  std::vector<Value> opaques;
  std::shared_ptr<const void> sources;
  std::shared_ptr<TicketState> ticket;
  bool reports_progress;
  OnEnd on_end;
};

StagerState::StagerState(const StagerOptions& options)
    : options_((check_options(options), options)),
      pool_(options.images, options.memory),
      workers_("us-copy", options.threads > 0 ? options.threads : os::copying_threads()),
      overlapped_({options.capture, options.huge_pages, options.threads}) {}

// Closed first, so that a prewarming ends soon.
StagerState::~StagerState() {
  close();
}

namespace {

std::vector<std::string> paths_of(const Value& state) {
  std::vector<std::string> paths;
  value::walk(state, [&](const value::Path& path, const Value& node) {
    if (node.type() == Value::Type::tensor) paths.push_back(path.str());
    format::Blob::Type blob;
    return !format::is_blob(node, blob);
  });
  return paths;
}

}  // namespace

StagerState::Plan& StagerState::plan_for(const Value& state, std::vector<Value>& opaques) {
  if (plan_) plan_->number = 0;  // whatever fails below, it is not that state any more
  auto structure = stage::examine(state);
  opaques = std::move(structure.opaques);
  const auto metadata = header_metadata({});
  std::vector<format::Span> scalars;
  if (plan_ && plan_->signature == structure.signature) {
    auto tree = format::encode_tree(state, plan_->layout->leaves, &scalars);
    if (format::fits(*plan_->layout, tree, metadata) &&
        move_tensors(plan_->moves_to(structure.tensors))) {
      plan_->transfer.set_blobs(std::move(structure.blobs));
      plan_->tree = std::move(tree);
      plan_->scalars = std::move(scalars);
      plan_->origin = "same";
      return *plan_;
    }
    scalars.clear();
  }
  plan_.reset();
  auto extents = value::find_extents(structure.tensors);
  stage::Places places(structure.tensors, extents);
  auto layout =
      std::make_shared<const format::Layout>(format::make_layout(state, extents, metadata));
  auto tree = format::encode_tree(state, layout->leaves, &scalars);
  plan_ = std::make_unique<Plan>(
      Plan{std::move(structure.signature), layout, transfer::Plan(*layout, std::move(extents)),
           std::move(places), next_layout_id_++, next_places_id_++,
           std::make_shared<const std::vector<std::string>>(paths_of(state)), std::move(tree),
           std::move(scalars)});
  plan_->transfer.set_blobs(std::move(structure.blobs));
  return *plan_;
}

// False when that takes another plan; then nothing has changed.
bool StagerState::move_tensors(std::span<const stage::Move> moves) {
  if (moves.empty()) return true;
  const auto moved = plan_->places.move(moves);
  if (!moved) return false;
  for (const auto& m : *moved) {
    plan_->transfer.move_extent(m.extent, m.by_nbytes);
    // What is smaller is copied at once wherever it lies.
    if (m.nbytes >= stage::kProtectedNbytes) plan_->places_id = next_places_id_++;
  }
  return true;
}

// Whether the plan is of that state; then it has its scalars and places now.
bool StagerState::take(const Again& again) {
  if (!plan_ || again.was == 0 || plan_->number != again.was) return false;
  auto tree = plan_->tree;
  auto scalars = plan_->scalars;
  if (!again.scalars.empty()) {
    format::exchange_scalars(tree, scalars, again.scalars);
    if (!format::fits(*plan_->layout, tree, header_metadata({}))) return false;
  }
  if (!move_tensors(again.moves)) return false;
  plan_->tree = std::move(tree);
  plan_->scalars = std::move(scalars);
  plan_->number = again.is;
  plan_->origin = "again";
  return true;
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
  if (why == Failure::lost) code = ErrorCode::io;
  const auto chunk = flight.failed_chunk();
  const auto name = chunk
                        ? tensor_at(paths, layout, static_cast<std::uint64_t>(chunk->target - data))
                        : std::string("a tensor");
  return std::make_exception_ptr(Error(code, stage::describe_failure(why, name)));
}

// Makes the image's pages and fills them in one pass.
void fill_new(memory::Image& image, const format::Layout& layout, const transfer::Plan& plan,
              bool zero_gaps, WorkerPool& workers) {
  const auto first = layout.header_nbytes, last = first + layout.data_nbytes;
  image.prepare(workers, [&](std::uint64_t begin, std::uint64_t nbytes) {
    const auto from = std::max(begin, first), to = std::min(begin + nbytes, last);
    if (from < to) plan.fill(from - first, {image.data() + from, to - from}, zero_gaps);
  });
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
  home_.require("a stager");
  std::lock_guard one_at_a_time(mutex_);
  std::vector<Value> opaques;
  plan_for(state, opaques).number = number;
  return begin({std::move(opaques), std::make_shared<const Value>(state), ticket, reports_progress,
                std::move(on_end)});
}

std::shared_ptr<Capturing> StagerState::capture(const Again& again,
                                                const std::shared_ptr<TicketState>& ticket,
                                                bool reports_progress, OnEnd on_end) {
  home_.require("a stager");
  std::lock_guard one_at_a_time(mutex_);
  if (!take(again)) return nullptr;
  return begin({{}, again.owners, ticket, reports_progress, std::move(on_end)});
}

// Steps 3 and 4, by the plan as it is.
std::shared_ptr<Capturing> StagerState::begin(Order order) {
  const auto& plan = *plan_;
  const auto& ticket = order.ticket;
  SnapshotState::Contents contents;
  contents.opaques = std::move(order.opaques);
  contents.tree = plan.tree;
  const auto layout = contents.layout = plan.layout;
  double waited_s = 0;
  const auto lease = contents.image =
      pool_.lease(layout->file_nbytes(), options_.when_busy, waited_s);
  auto& image = *lease;
  const bool is_new = !image.is_prepared();
  const bool is_zeroed = image.layout_id == 0 || image.layout_id == plan.layout_id;
  image.layout_id = plan.layout_id;
  auto* const data = image.data() + layout->header_nbytes;
  const bool fills_at_once = is_new && !overlapped_.is_wanted();
  if (fills_at_once) {
    fill_new(image, *layout, plan.transfer, !is_zeroed, workers_);
  } else {
    image.prepare(workers_);
  }
  std::memset(image.data(), 0, format::kPrefixNbytes);
  // Zeros up to the next page boundary, where direct writes end.
  const auto end = layout->file_nbytes();
  std::memset(image.data() + end, 0, std::min(image.capacity() - end, format::kAlignment));
  auto capturing =
      std::make_shared<Capturing>(Snapshot(std::make_shared<SnapshotState>(std::move(contents))));
  const auto finish = [ticket, capturing,
                       on_end = std::move(order.on_end)](std::exception_ptr failure) {
    if (!failure) ticket->set_captured();
    capturing->end(failure);
    on_end(*capturing, failure);
  };
  const auto begun = overlapped_.begin(
      {.plan = plan.transfer,
       .plan_id = plan.places_id,
       .data = data,
       .zero_gaps = !is_zeroed,
       .image_is_new = is_new,
       .workers = workers_,
       .sources = order.sources,
       .target = std::make_shared<Target>(lease, ticket),
       .progress = order.reports_progress ? &ticket->done_nbytes : nullptr,
       .on_end =
           [ticket, finish, layout, data, paths = plan.paths](const stage::Flight& flight) {
             {
               std::lock_guard lock(ticket->mutex);
               ticket->metrics.faults = flight.faults();
               ticket->metrics.faults_nbytes = flight.fault_nbytes();
             }
             finish(failure_of(flight, *paths, *layout, data));
           }},
      waited_s);
  if (!begun.is_under_way && !fills_at_once) {
    plan.transfer.fill_all(data, !is_zeroed, workers_);
  }
  {
    std::lock_guard lock(ticket->mutex);
    ticket->metrics.nbytes = end;
    ticket->metrics.waited_s = waited_s;
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
  const auto nbytes = plan_for(state, opaques).layout->file_nbytes();
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

Stager::Stager(StagerOptions options) : state_(std::make_unique<StagerState>(options)) {}
Stager::~Stager() = default;
Stager::Stager(Stager&&) noexcept = default;
Stager& Stager::operator=(Stager&&) noexcept = default;

namespace {

// Takes a ticket through one capture, however that is begun; nothing when it
// could not be.
template <class Begin>
std::optional<Ticket<Snapshot>> stage_by(const StagerOptions& options, const Begin& begin) {
  auto ticket = std::make_shared<TicketState>();
  auto result = std::make_shared<std::optional<Snapshot>>();
  try {
    const auto capturing =
        begin(ticket, [ticket, result](Capturing& ended, std::exception_ptr failure) {
          if (failure) return ticket->set_failed(failure);
          *result = ended.take();
          ticket->total_nbytes = (*result)->nbytes();
          ticket->done_nbytes = ticket->total_nbytes.load();
          ticket->set_done();
        });
    if (!capturing) return {};
  } catch (const Error& e) {
    // Skipping is an answer, not a failure of the call.
    if (e.code() != ErrorCode::busy || options.when_busy != WhenBusy::skip) throw;
    ticket->set_failed(std::current_exception());
    return Ticket<Snapshot>{ticket, result};
  }
  std::lock_guard lock(ticket->mutex);
  ticket->metrics.blocked_s = ticket->elapsed();
  return Ticket<Snapshot>{ticket, result};
}

}  // namespace

Ticket<Snapshot> Stager::stage(const Value& state, std::uint64_t number) {
  return *stage_by(state_->options(), [&](const auto& ticket, auto on_end) {
    return state_->capture(state, number, ticket, true, std::move(on_end));
  });
}

std::optional<Ticket<Snapshot>> Stager::stage_again(const Again& again) {
  return stage_by(state_->options(), [&](const auto& ticket, auto on_end) {
    return state_->capture(again, ticket, true, std::move(on_end));
  });
}

Ticket<std::uint64_t> Stager::prewarm(const Value& state) {
  auto ticket = std::make_shared<TicketState>();
  auto result = std::make_shared<std::optional<std::uint64_t>>();
  state_->prewarm(state, ticket, result);
  return {ticket, result};
}

void Stager::close() {
  state_->close();
}

std::vector<std::pair<std::string, std::string>> header_metadata(const FileMetadata& metadata) {
  std::vector<std::pair<std::string, std::string>> all;
  if (!metadata.contains("format")) all.emplace_back("format", "pt");
  for (const auto& [key, text] : metadata) all.emplace_back(key, text);
  return all;
}

void check_options(const StagerOptions& options) {
  if (options.images < 1) {
    fail(ErrorCode::invalid, "images must be at least 1, not {}", options.images);
  }
  if (options.threads < 0) {
    fail(ErrorCode::invalid, "threads must not be negative, but is {}", options.threads);
  }
  if (options.memory == Memory::shared) {
    fail(ErrorCode::unsupported, "memory 'shared' is not in this version; use 'pageable'");
  }
  if (options.huge_pages && options.capture == Capture::blocking) {
    fail(ErrorCode::invalid, "huge_pages serves overlapped capture, and capture is 'blocking'");
  }
}

}  // namespace understudy
