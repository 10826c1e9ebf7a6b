#include "stage/flight.h"

#include <algorithm>

#include "vm/pages.h"

namespace understudy::stage {

Flight::Flight(vm::WriteProtection& protection, os::Event& news, std::vector<PageRun> runs,
               int copiers)
    : protection_(protection), news_(news), copiers_(copiers) {
  std::vector<PageRun> pieces;
  for (const auto& run : runs) {
    nbytes_ += run.nbytes;
    for (auto at = run.source; at < run.end();) {
      const auto end = std::min(run.end(), at / kChunkNbytes * kChunkNbytes + kChunkNbytes);
      pieces.push_back({at, run.target + (at - run.source), end - at});
      at = end;
    }
  }
  chunks_ = std::vector<Chunk>(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) chunks_[i].run = pieces[i];
  left_.store(chunks_.size(), std::memory_order_relaxed);
}

bool Flight::protect(std::size_t first, std::size_t count) noexcept {
  const auto last = std::min(first + count, chunks_.size());
  while (first < last) {
    // Neighbours by one call.
    const auto begin = chunks_[first].run.source;
    auto end = begin;
    while (first < last && chunks_[first].run.source == end) end = chunks_[first++].run.end();
    if (!protection_.protect(begin, end - begin)) return false;
  }
  return true;
}

bool Flight::claim(Chunk& chunk) noexcept {
  auto expected = State::waiting;
  return chunk.state.compare_exchange_strong(expected, State::claimed, std::memory_order_acq_rel,
                                             std::memory_order_acquire);
}

bool Flight::copy_next() noexcept {
  while (failure() == Failure::none) {
    const auto i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= chunks_.size()) return false;
    if (claim(chunks_[i])) return copy(i);
  }
  return false;
}

Flight::Failure Flight::copy_bytes(const PageRun& run) const noexcept {
  if (make_pages && !make_pages(run.target, run.nbytes)) return Failure::no_space;
  const auto* from = reinterpret_cast<const std::byte*>(run.source);
  switch (vm::copy_fault_proof(run.target, from, run.nbytes)) {
    case vm::CopyResult::done: break;
    case vm::CopyResult::not_mapped: return Failure::unmapped;
    case vm::CopyResult::refused: return Failure::refused;
  }
  return Failure::none;
}

bool Flight::copy(std::size_t index) noexcept {
  auto& chunk = chunks_[index];
  const auto& run = chunk.run;
  auto why = copy_bytes(run);
  // What was read is read before the question is asked, and that before the
  // lifting: system calls are ordered by the kernel's locks, and by this.
  chunk.state.exchange(State::claimed, std::memory_order_seq_cst);
  if (why == Failure::none) {
    switch (protection_.is_protected(run.source, run.nbytes)) {
      case vm::WriteProtection::Answer::yes: break;
      case vm::WriteProtection::Answer::no: why = Failure::unprotected; break;
      case vm::WriteProtection::Answer::none: why = Failure::lost; break;
    }
  }
  if (!protection_.lift(run.source, run.nbytes) && why == Failure::none) {
    why = Failure::unprotected;
  }
  if (why != Failure::none) {
    fail(why, index);
    return false;
  }
  chunk.state.store(State::done, std::memory_order_release);
  done_nbytes_.fetch_add(run.nbytes, std::memory_order_relaxed);
  if (progress != nullptr) progress->fetch_add(run.nbytes, std::memory_order_relaxed);
  if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) news_.set();
  return true;
}

void Flight::serve(std::uintptr_t address) noexcept {
  faults_.fetch_add(1, std::memory_order_relaxed);
  const auto after =
      std::upper_bound(chunks_.begin(), chunks_.end(), address,
                       [](std::uintptr_t at, const Chunk& c) { return at < c.run.source; });
  if (after == chunks_.begin() || address >= std::prev(after)->run.end()) {
    // None of ours: a page that was left protected must not hold anybody.
    const auto page = vm::page_nbytes();
    protection_.lift(address / page * page, page);
    return;
  }
  auto& chunk = *std::prev(after);
  if (failure() == Failure::none && claim(chunk)) {
    const auto nbytes = chunk.run.nbytes;
    if (copy(static_cast<std::size_t>(&chunk - chunks_.data()))) {
      fault_nbytes_.fetch_add(nbytes, std::memory_order_relaxed);
    }
    return;
  }
  // A copier has it, and will lift it at once. Otherwise the message is old, or
  // nothing counts any more.
  const bool is_copied = chunk.state.load(std::memory_order_acquire) == State::claimed;
  if (!is_copied || failure() != Failure::none) {
    protection_.lift(chunk.run.source, chunk.run.nbytes);
  }
}

void Flight::fail(Failure failure, std::optional<std::size_t> chunk) noexcept {
  std::uint64_t none = 0;
  const auto which = chunk ? static_cast<std::uint64_t>(*chunk) + 1 : 0;
  failed_.compare_exchange_strong(none, which << 8 | static_cast<std::uint64_t>(failure),
                                  std::memory_order_acq_rel);
  news_.set();
}

void Flight::lift_all() noexcept {
  for (auto& chunk : chunks_) {
    if (chunk.state.load(std::memory_order_acquire) == State::done) continue;
    protection_.lift(chunk.run.source, chunk.run.nbytes);
  }
}

void Flight::leave() noexcept {
  auto& news = news_;  // the flight may end with the last thread
  inside.fetch_sub(1, std::memory_order_acq_rel);
  news.set();
}

std::optional<PageRun> Flight::failed_chunk() const noexcept {
  const auto which = failed_.load(std::memory_order_acquire) >> 8;
  if (which == 0) return {};
  return chunks_[which - 1].run;
}

}  // namespace understudy::stage
