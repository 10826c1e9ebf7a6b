#include "memory/image.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/process.h"

namespace understudy::memory {
namespace {

// Images come in multiples of the largest page that maps them, so that a state
// that grows a little still fits.
constexpr std::uint64_t kUnit = std::uint64_t{2} << 20;

}  // namespace

struct ImagePool::State {
  std::mutex mutex;
  std::condition_variable returned;
  std::vector<std::unique_ptr<Image>> free;
  int leased = 0;
  int limit = 0;
  bool is_closed = false;
  HomeProcess home;
};

ImagePool::ImagePool(int limit) : state_(std::make_shared<State>()) {
  state_->limit = limit;
}

ImagePool::~ImagePool() {
  if (state_->home.is_here()) {
    close();
  } else {
    // A forked child: the mutex may be held by a thread that is not here.
    new std::shared_ptr<State>(std::move(state_));
  }
}

Lease ImagePool::lease(std::uint64_t nbytes, WhenBusy when_busy, double& waited_s) {
  auto& s = *state_;
  const auto size = std::max(round_up(nbytes, kUnit), kUnit);
  std::unique_lock lock(s.mutex);
  if (s.leased >= s.limit && !s.is_closed) {
    if (when_busy != WhenBusy::wait) {
      fail(ErrorCode::busy,
           "all {} images are leased: earlier snapshots are still being written "
           "or held",
           s.limit);
    }
    const auto began = std::chrono::steady_clock::now();
    s.returned.wait(lock, [&] { return s.leased < s.limit || s.is_closed; });
    waited_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }
  if (s.is_closed) fail(ErrorCode::closed, "the stager is closed");
  // The smallest that fits; twice the size is too large to keep for this state.
  const auto best = std::min_element(s.free.begin(), s.free.end(), [&](auto& a, auto& b) {
    const auto rank = [&](const Image& i) {
      return std::pair(i.capacity() < size || i.capacity() > 2 * size, i.capacity());
    };
    return rank(*a) < rank(*b);
  });
  std::unique_ptr<Image> image;
  if (best != s.free.end()) {
    image = std::move(*best);
    s.free.erase(best);
    if (image->capacity() < size || image->capacity() > 2 * size) image.reset();
  }
  ++s.leased;
  lock.unlock();
  const auto give_back = [state = state_](Image* raw) {
    if (!state->home.is_here()) return;  // never unmapped, never locked in a forked child
    std::unique_ptr<Image> back(raw);
    std::lock_guard inner(state->mutex);
    --state->leased;
    if (back && !state->is_closed) state->free.push_back(std::move(back));
    state->returned.notify_one();
  };
  try {
    if (!image) image = std::make_unique<Image>(size);
    return Lease(image.release(), give_back);
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void ImagePool::close() {
  std::vector<std::unique_ptr<Image>> gone;
  {
    std::lock_guard lock(state_->mutex);
    state_->is_closed = true;
    gone.swap(state_->free);
  }
  state_->returned.notify_all();
}

}  // namespace understudy::memory
