#include "memory/image.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/process.h"
#include "base/text.h"
#include "base/waiting.h"
#include "os/system.h"
#include "vm/pages.h"

namespace understudy::memory {
namespace {

// Images come in multiples of the largest page that maps them, so that a state
// that grows a little still fits.
constexpr std::uint64_t kUnit = vm::kHugePageNbytes;

// Twice the size is too large to keep for this state. A file is cut to what it holds, which must
// not take pages from it.
bool fits(const Image& image, std::uint64_t size) {
  if (!image.file_name().empty()) return image.capacity() == size;
  return image.capacity() >= size && image.capacity() <= 2 * size;
}

}  // namespace

std::string Image::describe() const {
  return format_text("{}, {}", choice_, region_.describe_pages());
}

void Image::set_file_length(std::uint64_t nbytes) const {
  os::File file(region_.fd(), file_name_);
  try {
    file.resize(nbytes);
  } catch (...) {
    file.leak();
    throw;
  }
  file.leak();
}

struct ImagePool::State {
  std::uint64_t size_for(std::uint64_t nbytes) const {
    const auto unit = make_file ? vm::page_nbytes() : kUnit;
    return std::max(round_up(nbytes, unit), unit);
  }
  std::shared_ptr<Image> make(std::uint64_t size);
  std::shared_ptr<Image> take_free(std::uint64_t size);
  std::shared_ptr<Image> free_to_prewarm(std::uint64_t size);
  bool is_free(const Image& image);
  void choose();

  std::mutex mutex;
  std::condition_variable returned;
  // Shared with a prewarming that goes on.
  std::vector<std::shared_ptr<Image>> free;
  int leased = 0;
  int limit = 0;
  MakeImageFile make_file;
  bool is_closed = false;
  HomeProcess home;

  // What images are made of; empty until it is chosen.
  std::mutex choosing;
  std::string choice;
  std::shared_ptr<device::CudaContext> context;
};

// By Memory::automatic.
void ImagePool::State::choose() {
  const std::lock_guard lock(choosing);
  if (!choice.empty()) return;
  std::string why;
  context = device::CudaContext::open_if_in_use(why);
  choice = context ? format_text("pinned ({})", context->name())
                   : format_text("pageable (not pinned: {})", why);
}

std::shared_ptr<Image> ImagePool::State::make(std::uint64_t size) {
  choose();
  if (!make_file) return make_home<Image>(size, context, choice);
  os::require_memory("an image", size);
  std::string why_not;
  if (auto file = make_file(size, why_not)) {
    return make_home<Image>(std::move(*file), size, context, choice + ", survives");
  }
  return make_home<Image>(size, context, format_text("{}, does not survive: {}", choice, why_not));
}

// The smallest that fits. Else one that does not goes, to make room. Under the
// mutex; what goes is unmapped there, as long as nobody prewarms it.
std::shared_ptr<Image> ImagePool::State::take_free(std::uint64_t size) {
  const auto best = std::min_element(free.begin(), free.end(), [&](auto& a, auto& b) {
    const auto rank = [&](const Image& i) { return std::pair(!fits(i, size), i.capacity()); };
    return rank(*a) < rank(*b);
  });
  if (best == free.end()) return nullptr;
  auto image = std::move(*best);
  free.erase(best);
  if (!fits(*image, size)) image.reset();
  return image;
}

std::shared_ptr<Image> ImagePool::State::free_to_prewarm(std::uint64_t size) {
  std::lock_guard lock(mutex);
  if (is_closed) fail(ErrorCode::closed, "the stager is closed");
  std::erase_if(free, [&](const auto& image) { return !fits(*image, size); });
  const auto found = std::find_if(free.begin(), free.end(),
                                  [](const auto& image) { return !image->is_prepared(); });
  if (found != free.end()) return *found;
  if (leased + static_cast<int>(free.size()) >= limit) return nullptr;
  return free.emplace_back(make(size));
}

bool ImagePool::State::is_free(const Image& image) {
  std::lock_guard lock(mutex);
  if (is_closed) fail(ErrorCode::closed, "the stager is closed");
  return std::any_of(free.begin(), free.end(), [&](const auto& i) { return i.get() == &image; });
}

ImagePool::ImagePool(int limit, Memory memory, MakeImageFile make_file)
    : state_(make_home<State>()) {
  state_->limit = limit;
  state_->make_file = std::move(make_file);
  if (memory == Memory::pinned) {
    state_->context = device::CudaContext::open();
    state_->choice = format_text("pinned ({})", state_->context->name());
  } else if (memory == Memory::pageable) {
    state_->choice = "pageable";
  }
}

ImagePool::~ImagePool() {
  if (state_->home.is_here()) close();
}

ImagePool::Slot ImagePool::take_slot(WhenBusy when_busy, double& waited_s) {
  auto& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.leased >= s.limit && !s.is_closed) {
    if (when_busy != WhenBusy::wait) return nullptr;
    const auto began = std::chrono::steady_clock::now();
    wait_awake(lock, s.returned, [&] { return s.leased < s.limit || s.is_closed; });
    waited_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }
  if (s.is_closed) fail(ErrorCode::closed, "the stager is closed");
  ++s.leased;
  lock.unlock();
  return Slot(state_.get(), [state = state_](void*) {
    if (!state->home.is_here()) return;
    std::lock_guard inner(state->mutex);
    --state->leased;
    state->returned.notify_one();
  });
}

void ImagePool::fail_busy() const {
  fail(ErrorCode::busy,
       "all {} images are leased: earlier snapshots are still being written or held",
       state_->limit);
}

Lease ImagePool::lease(Slot slot, std::uint64_t nbytes) {
  auto& s = *state_;
  const auto size = s.size_for(nbytes);
  std::shared_ptr<Image> image;
  {
    std::lock_guard lock(s.mutex);
    if (s.is_closed) fail(ErrorCode::closed, "the stager is closed");
    image = s.take_free(size);
  }
  if (!image) image = s.make(size);
  auto* const raw = image.get();
  return Lease(raw,
               [state = state_, slot = std::move(slot), owned = std::move(image)](Image*) mutable {
                 if (!state->home.is_here()) return;
                 {
                   std::lock_guard inner(state->mutex);
                   if (!state->is_closed) state->free.push_back(std::move(owned));
                 }
                 owned.reset();
                 slot.reset();
               });
}

Lease ImagePool::lease(std::uint64_t nbytes, WhenBusy when_busy, double& waited_s) {
  auto slot = take_slot(when_busy, waited_s);
  if (!slot) fail_busy();
  return lease(std::move(slot), nbytes);
}

void ImagePool::prewarm(std::uint64_t nbytes, const std::function<void(std::uint64_t)>& done) {
  auto& s = *state_;
  const auto size = s.size_for(nbytes);
  while (const auto image = s.free_to_prewarm(size)) {
    std::uint64_t cursor = 0, before = 0;
    while (s.is_free(*image) && image->prepare_piece(cursor)) {
      done(cursor - before);
      before = cursor;
    }
  }
}

void ImagePool::close() {
  std::vector<std::shared_ptr<Image>> gone;
  {
    std::lock_guard lock(state_->mutex);
    state_->is_closed = true;
    gone.swap(state_->free);
  }
  state_->returned.notify_all();
}

}  // namespace understudy::memory
