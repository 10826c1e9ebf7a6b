#include "understudy/stager.h"

#include "base/error.h"
#include "base/ticket.h"
#include "stage/snapshot.h"

namespace understudy {

Stager::Stager(StagerOptions options) : state_(make_home<StagerState>(options)) {}
Stager::~Stager() = default;
Stager::Stager(Stager&&) noexcept = default;
Stager& Stager::operator=(Stager&&) noexcept = default;

namespace {

// Takes a ticket through one capture, however that is begun; nothing when it
// could not be.
template <class Begin>
std::optional<Ticket<Snapshot>> stage_by(const StagerOptions& options, const Begin& begin) {
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
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
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
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
