#include "understudy/mirror.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/process.h"
#include "base/worker_pool.h"
#include "memory/region.h"
#include "os/system.h"
#include "transfer/copy_bytes.h"
#include "understudy/tensor.h"
#include "vm/shared_mapping.h"

namespace understudy {
namespace {

// Private memory from this size on is mapped by itself: the machine is asked
// what it has left, and its pages are made in bulk.
constexpr std::uint64_t kMappedNbytes = std::uint64_t{1} << 20;

struct Block {
  Block(std::uint64_t nbytes, bool is_shared, std::shared_ptr<device::CudaContext> context) {
    buffer.nbytes = nbytes;
    if (nbytes == 0) return;
    if (is_shared || context || nbytes >= kMappedNbytes) {
      // Tensors over it are the caller's, who may use them in a forked child.
      const auto sharing = is_shared ? memory::Sharing::is_inherited : memory::Sharing::is_private;
      region = std::make_unique<memory::Region>(sharing, nbytes, std::move(context));
      buffer.data = region->data();
      buffer.fd = region->fd();
      return;
    }
    small = Storage::allocate(nbytes);
    buffer.data = small->data();
  }

  Buffer buffer;
  std::unique_ptr<memory::Region> region;
  std::shared_ptr<const Storage> small;
  std::uint64_t freed_in_round = 0;
};

MirrorOptions checked(MirrorOptions options) {
  if (options.threads < 0) {
    fail(ErrorCode::invalid, "threads must not be negative, but is {}", options.threads);
  }
  return options;
}

}  // namespace

struct Mirror::State {
  explicit State(MirrorOptions options)
      : is_shared(options.memory == Memory::shared),
        pin_min_nbytes(options.pin_min_nbytes),
        context(options.pin || options.memory == Memory::pinned ? device::CudaContext::open()
                                                                : nullptr),
        workers("us-mirror", options.threads > 0 ? options.threads : os::copying_threads()) {}

  void forget(const Block& block);

  const bool is_shared;
  const std::uint64_t pin_min_nbytes;
  const std::shared_ptr<device::CudaContext> context;  // null: nothing is pinned
  HomeProcess home;
  WorkerPool workers;
  std::mutex mutex;
  std::multimap<std::uint64_t, std::unique_ptr<Block>> free;
  std::map<const std::byte*, memory::Region*> fresh;  // not prepared yet, by where they begin
  std::uint64_t nbytes = 0;
  std::uint64_t round = 0;
  bool is_pooling = true;  // off from `clear` to the next `take`
};

// Before the block ends. Under the mutex.
void Mirror::State::forget(const Block& block) {
  nbytes -= block.buffer.nbytes;
  fresh.erase(block.buffer.data);
}

Mirror::Mirror(MirrorOptions options) : state_(make_home<State>(checked(options))) {}

Mirror::~Mirror() {
  clear();  // nothing in a forked child
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
    const bool is_pinned = nbytes >= s.pin_min_nbytes;
    block = std::make_unique<Block>(nbytes, s.is_shared, is_pinned ? s.context : nullptr);
    std::lock_guard lock(s.mutex);
    s.nbytes += nbytes;
    if (block->region) s.fresh.emplace(block->buffer.data, block->region.get());
  }
  const auto* buffer = &block->buffer;
  std::shared_ptr<Block> owner(block.release(), [state = state_](Block* raw) {
    if (!state->home.is_here()) return;  // never unmapped, never locked in a forked child
    std::unique_ptr<Block> back(raw);
    std::lock_guard lock(state->mutex);
    // Another process may still have a shared one mapped, and nobody tells.
    if (!state->is_pooling || state->is_shared) {
      state->forget(*back);
    } else {
      back->freed_in_round = state->round;
      state->free.emplace(back->buffer.nbytes, std::move(back));
    }
  });
  return {std::move(owner), buffer};
}

void Mirror::prepare(const std::vector<ByteCopy>& copies) {
  auto& s = *state_;
  s.home.require("a mirror");
  std::vector<memory::Region*> fresh;
  {
    std::lock_guard lock(s.mutex);
    for (const auto& copy : s.fresh.empty() ? std::vector<ByteCopy>() : copies) {
      auto found = s.fresh.upper_bound(copy.to);
      if (found == s.fresh.begin()) continue;
      auto* const region = std::prev(found)->second;
      if (copy.to < region->data() + region->nbytes()) fresh.push_back(region);
    }
  }
  // Several copies may go into one.
  std::sort(fresh.begin(), fresh.end());
  fresh.erase(std::unique(fresh.begin(), fresh.end()), fresh.end());
  memory::prepare_all(fresh, s.workers);
  if (!fresh.empty()) {
    std::lock_guard lock(s.mutex);
    for (const auto* region : fresh) s.fresh.erase(region->data());
  }
}

void Mirror::copy(const std::vector<ByteCopy>& copies) {
  prepare(copies);
  transfer::copy_runs(copies, state_->workers);
}

std::shared_ptr<const void> Mirror::pin(std::byte* data, std::uint64_t nbytes) {
  auto& s = *state_;
  s.home.require("a mirror");
  if (!s.context) fail(ErrorCode::invalid, "this mirror was not made to pin memory");
  return std::make_shared<const device::PinnedRange>(s.context, data, nbytes);
}

void Mirror::trim() {
  auto& s = *state_;
  if (!s.home.is_here()) return;
  std::vector<std::unique_ptr<Block>> gone;
  std::lock_guard lock(s.mutex);
  for (auto at = s.free.begin(); at != s.free.end();) {
    if (at->second->freed_in_round < s.round) {
      s.forget(*at->second);
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
  for (const auto& [nbytes, block] : s.free) s.forget(*block);
  gone.swap(s.free);
}

std::uint64_t Mirror::nbytes() const {
  state_->home.require("a mirror");
  std::lock_guard lock(state_->mutex);
  return state_->nbytes;
}

std::shared_ptr<const Buffer> map_buffer(int fd, std::uint64_t nbytes) {
  struct Mapped {
    Mapped(int fd, std::uint64_t nbytes)
        : mapping(fd, nbytes), buffer{mapping.data(), nbytes, mapping.fd()} {}
    vm::SharedMapping mapping;
    Buffer buffer;
  };
  const auto mapped = std::make_shared<Mapped>(fd, nbytes);
  return {mapped, &mapped->buffer};
}

}  // namespace understudy
