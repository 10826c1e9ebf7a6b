#include "understudy/mirror.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/process.h"
#include "base/worker_pool.h"
#include "os/system.h"
#include "transfer/copy_bytes.h"
#include "understudy/tensor.h"

namespace understudy {
namespace {

// Private memory from this size on is mapped by itself: the machine is asked
// what it has left, and its pages are made in bulk.
constexpr std::uint64_t kMappedNbytes = std::uint64_t{1} << 20;

struct Block {
  explicit Block(std::uint64_t nbytes, bool is_shared) {
    buffer.nbytes = nbytes;
    if (nbytes == 0) return;
    if (is_shared) {
      shared = std::make_unique<os::SharedMapping>(nbytes);
      buffer.data = shared->data();
      buffer.fd = shared->fd();
      return;
    }
    if (nbytes >= kMappedNbytes) {
      mapped = std::make_unique<os::AnonymousMapping>(nbytes);
      buffer.data = mapped->data();
      return;
    }
    small = Storage::allocate(nbytes);
    buffer.data = small->data();
  }

  Buffer buffer;
  std::unique_ptr<os::SharedMapping> shared;
  std::unique_ptr<os::AnonymousMapping> mapped;
  std::shared_ptr<const Storage> small;
  std::uint64_t freed_in_round = 0;
};

MirrorOptions checked(MirrorOptions options) {
  if (options.threads < 0) {
    fail(ErrorCode::invalid, "threads must not be negative, but is {}", options.threads);
  }
  if (options.memory == Memory::pinned) {
    fail(ErrorCode::unsupported, "memory 'pinned' is not in this version; use 'pageable'");
  }
  return options;
}

}  // namespace

struct Mirror::State {
  explicit State(MirrorOptions options)
      : is_shared(options.memory == Memory::shared),
        workers("us-mirror", options.threads > 0 ? options.threads : os::usable_cores()) {}

  const bool is_shared;
  HomeProcess home;
  WorkerPool workers;
  std::mutex mutex;
  std::multimap<std::uint64_t, std::unique_ptr<Block>> free;
  std::set<const std::byte*> untouched;  // mapped ones without pages
  std::uint64_t nbytes = 0;
  std::uint64_t round = 0;
  bool is_pooling = true;  // off from `clear` to the next `take`
};

Mirror::Mirror(MirrorOptions options) : state_(std::make_shared<State>(checked(options))) {}

Mirror::~Mirror() {
  if (!state_->home.is_here()) {
    // A forked child: the mutex may be held by a thread that is not here.
    new std::shared_ptr<State>(std::move(state_));
    return;
  }
  clear();
}

std::shared_ptr<const Buffer> Mirror::take(std::uint64_t nbytes) {
  auto& s = *state_;
  s.home.require("a mirror");
  std::unique_ptr<Block> block;
  {
    std::lock_guard lock(s.mutex);
    s.is_pooling = true;
    if (const auto found = s.free.find(nbytes); found != s.free.end()) {
      block = std::move(found->second);
      s.free.erase(found);
    }
  }
  if (!block) {
    block = std::make_unique<Block>(nbytes, s.is_shared);
    std::lock_guard lock(s.mutex);
    s.nbytes += nbytes;
    if (block->mapped) s.untouched.insert(block->buffer.data);
  }
  const auto* buffer = &block->buffer;
  std::shared_ptr<Block> owner(block.release(), [state = state_](Block* raw) {
    if (!state->home.is_here()) return;  // never unmapped, never locked in a forked child
    std::unique_ptr<Block> back(raw);
    std::lock_guard lock(state->mutex);
    // Another process may still have a shared one mapped, and nobody tells.
    if (!state->is_pooling || state->is_shared) {
      state->nbytes -= back->buffer.nbytes;
    } else {
      back->freed_in_round = state->round;
      state->free.emplace(back->buffer.nbytes, std::move(back));
    }
  });
  return {std::move(owner), buffer};
}

void Mirror::copy(const std::vector<ByteCopy>& copies) {
  auto& s = *state_;
  s.home.require("a mirror");
  std::vector<ByteCopy> first, others;
  {
    std::lock_guard lock(s.mutex);
    if (!s.untouched.empty()) {
      for (const auto& copy : copies) {
        (s.untouched.erase(copy.to) > 0 ? first : others).push_back(copy);
      }
    }
  }
  if (first.empty()) return transfer::copy_runs(copies, s.workers);
  // One 256 KiB at a time, so that what the kernel has just zeroed is still in
  // the cache when it is written (measured: 0.27 s a GiB on two threads; 0.35 s
  // fault by fault, 1.5 s in fresh huge pages of a virtual machine).
  constexpr std::uint64_t kPieceNbytes = std::uint64_t{256} << 10;
  std::vector<ByteCopy> pieces;
  for (const auto& copy : first) {
    for (std::uint64_t at = 0; at < copy.nbytes; at += kPieceNbytes) {
      pieces.push_back({copy.from + at, copy.to + at, std::min(kPieceNbytes, copy.nbytes - at)});
    }
  }
  s.workers.run(pieces.size(), [&](std::uint64_t i, int) {
    os::populate(pieces[i].to, pieces[i].nbytes);
    std::memcpy(pieces[i].to, pieces[i].from, pieces[i].nbytes);
  });
  transfer::copy_runs(others, s.workers);
}

void Mirror::trim() {
  auto& s = *state_;
  if (!s.home.is_here()) return;
  std::vector<std::unique_ptr<Block>> gone;
  std::lock_guard lock(s.mutex);
  for (auto at = s.free.begin(); at != s.free.end();) {
    if (at->second->freed_in_round < s.round) {
      s.nbytes -= at->first;
      gone.push_back(std::move(at->second));
      at = s.free.erase(at);
    } else {
      ++at;
    }
  }
  ++s.round;
}

void Mirror::clear() {
  auto& s = *state_;
  if (!s.home.is_here()) return;
  std::multimap<std::uint64_t, std::unique_ptr<Block>> gone;
  std::lock_guard lock(s.mutex);
  s.is_pooling = false;
  for (const auto& [nbytes, block] : s.free) s.nbytes -= nbytes;
  gone.swap(s.free);
}

std::uint64_t Mirror::nbytes() const {
  std::lock_guard lock(state_->mutex);
  return state_->nbytes;
}

}  // namespace understudy
