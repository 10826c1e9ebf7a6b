// A capture, step by step:
// 1. One pass over the state gives its structure and the bytes of its blobs.
// 2. The plan is reused when the structure is the last one's; else a new one
//    is made. The tree, which holds the scalars, is written anew each time.
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
  std::uint64_t layout_id;
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

const StagerState::Plan& StagerState::plan_for(const Value& state, std::string& tree,
                                               std::vector<Value>& opaques) {
  auto structure = stage::examine(state);
  opaques = std::move(structure.opaques);
  const auto metadata = header_metadata({});
  if (plan_ && plan_->signature == structure.signature) {
    tree = format::encode_tree(state, plan_->layout->leaves);
    if (format::fits(*plan_->layout, tree, metadata)) {
      plan_->transfer.set_blobs(std::move(structure.blobs));
      return *plan_;
    }
  }
  plan_.reset();
  auto extents = value::find_extents(structure.tensors);
  auto layout =
      std::make_shared<const format::Layout>(format::make_layout(state, extents, metadata));
  tree = format::encode_tree(state, layout->leaves);
  plan_ =
      std::make_unique<Plan>(Plan{std::move(structure.signature), layout,
                                  transfer::Plan(*layout, std::move(extents)), next_layout_id_++});
  plan_->transfer.set_blobs(std::move(structure.blobs));
  return *plan_;
}

namespace {

// The path of the tensor whose bytes lie at `offset` of the data section.
std::string tensor_at(const Value& state, const format::Layout& layout, std::uint64_t offset) {
  std::string found = "a tensor";
  std::size_t leaf = 0;
  value::walk(state, [&](const value::Path& path, const Value& node) {
    if (node.type() != Value::Type::tensor) return true;
    const auto& entry = layout.entries[layout.leaves.views[leaf++].entry];
    if (entry.begin <= offset && offset < entry.end) found = path.str();
    return true;
  });
  return found;
}

std::exception_ptr failure_of(const stage::Flight& flight, const Value* state,
                              const format::Layout& layout, const std::byte* data) {
  using Failure = stage::Flight::Failure;
  const auto why = flight.failure();
  if (why == Failure::none) return {};
  auto code = ErrorCode::invalid;
  if (why == Failure::late) code = ErrorCode::timeout;
  if (why == Failure::lost) code = ErrorCode::io;
  const auto chunk = flight.failed_chunk();
  const auto name =
      chunk && state != nullptr
          ? tensor_at(*state, layout, static_cast<std::uint64_t>(chunk->target - data))
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

std::shared_ptr<Capturing> StagerState::capture(const Value& state,
                                                const std::shared_ptr<TicketState>& ticket,
                                                bool reports_progress, OnEnd on_end) {
  home_.require("a stager");
  std::lock_guard one_at_a_time(mutex_);
  SnapshotState::Contents contents;
  const auto& plan = plan_for(state, contents.tree, contents.opaques);
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
  const auto finish = [ticket, capturing, on_end = std::move(on_end)](std::exception_ptr failure) {
    if (!failure) ticket->set_captured();
    capturing->end(failure);
    on_end(*capturing, failure);
  };
  const auto sources = std::make_shared<const Value>(state);
  const auto begun =
      overlapped_.begin({.plan = plan.transfer,
                         .plan_id = plan.layout_id,
                         .data = data,
                         .zero_gaps = !is_zeroed,
                         .image_is_new = is_new,
                         .workers = workers_,
                         .sources = sources,
                         .target = std::make_shared<Target>(lease, ticket),
                         .progress = reports_progress ? &ticket->done_nbytes : nullptr,
                         .on_end =
                             [ticket, finish, layout, data,
                              watched = std::weak_ptr(sources)](const stage::Flight& flight) {
                               {
                                 std::lock_guard lock(ticket->mutex);
                                 ticket->metrics.faults = flight.faults();
                                 ticket->metrics.faults_nbytes = flight.fault_nbytes();
                               }
                               finish(failure_of(flight, watched.lock().get(), *layout, data));
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
  std::string tree;
  std::vector<Value> opaques;
  const auto nbytes = plan_for(state, tree, opaques).layout->file_nbytes();
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

Ticket<Snapshot> Stager::stage(const Value& state) {
  auto ticket = std::make_shared<TicketState>();
  auto result = std::make_shared<std::optional<Snapshot>>();
  try {
    const auto capturing = state_->capture(
        state, ticket, true, [ticket, result](Capturing& ended, std::exception_ptr failure) {
          if (failure) return ticket->set_failed(failure);
          *result = ended.take();
          ticket->total_nbytes = (*result)->nbytes();
          ticket->done_nbytes = ticket->total_nbytes.load();
          ticket->set_done();
        });
  } catch (const Error& e) {
    // Skipping is an answer, not a failure of the call.
    if (e.code() != ErrorCode::busy || state_->options().when_busy != WhenBusy::skip) throw;
    ticket->set_failed(std::current_exception());
    return {ticket, result};
  }
  std::lock_guard lock(ticket->mutex);
  ticket->metrics.blocked_s = ticket->elapsed();
  return {ticket, result};
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
