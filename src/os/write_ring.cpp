#include "os/write_ring.h"

#include <fmt/format.h>
#include <liburing.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "os/calls.h"
#include "os/failure.h"
#include "os/write_progress.h"

namespace understudy::os {

namespace {

// A ring may be mapped where another thread's was. The kernel orders that, but
// those who watch for races do not see system calls that liburing makes itself.
std::atomic<unsigned> rings_ended{0};

}  // namespace

struct WriteRing::State {
  ~State() {
    rings_ended.fetch_add(1, std::memory_order_release);
    if (is_open) io_uring_queue_exit(&ring);
  }

  io_uring ring{};
  bool is_open = false;
  /// A call on the ring itself failed: nobody can say what is under way.
  bool is_broken = false;
  const File* file = nullptr;  ///< of the last write begun
  std::vector<WriteProgress> slots;
};

WriteRing::WriteRing(HomePtr<State> state) : state_(std::move(state)) {}

WriteRing::~WriteRing() {
  // The kernel shares the ring with all who have it mapped: a child that took what has
  // ended would leave its parent waiting for ever.
  if (home_.is_here()) drain();
}

std::unique_ptr<WriteRing> WriteRing::open(unsigned depth, std::string& why) {
  auto state = make_home<State>();
  if (calls().uring_open(depth, &state->ring) != 0) {
    why = fmt::format("cannot set up a ring: {}", std::strerror(errno));
    return nullptr;
  }
  state->is_open = true;
  (void)rings_ended.load(std::memory_order_acquire);
  state->slots.resize(depth);
  return std::unique_ptr<WriteRing>(new WriteRing(std::move(state)));
}

void WriteRing::begin(unsigned slot, const File& file, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  home_.require("a ring");
  state_->file = &file;
  state_->slots[slot] = WriteProgress(file, offset, bytes);
  submit(slot);
  ++in_flight_;
}

void WriteRing::submit(unsigned slot) {
  State& s = *state_;
  const WriteProgress& write = s.slots[slot];
  const auto rest = write.rest();
  io_uring_sqe* entry = io_uring_get_sqe(&s.ring);  // there is one: slots are as many as entries
  const auto length = static_cast<unsigned>(rest.size());  // of a block: far below 4 GiB
  io_uring_prep_write(entry, write.file().fd(), rest.data(), length, write.offset());
  io_uring_sqe_set_data64(entry, slot);
  // EAGAIN and EBUSY: short of memory, or of room for what has ended. Both pass.
  constexpr int kMaxTries = 8;
  for (int tries = 1;; ++tries) {
    const int taken = uninterrupted([&] { return calls().uring_submit(&s.ring); });
    if (taken > 0) return;
    const bool passes = taken == 0 || errno == EAGAIN || errno == EBUSY;
    if (!passes || tries == kMaxTries) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(tries));
  }
  s.is_broken = true;
  fail_call("hand a write to io_uring for", write.file().name(), errno);
}

bool WriteRing::has_ended_one() const noexcept {
  return in_flight_ > 0 && home_.is_here() && io_uring_cq_ready(&state_->ring) > 0;
}

unsigned WriteRing::wait() {
  home_.require("a ring");
  State& s = *state_;
  for (;;) {
    io_uring_cqe* done = nullptr;
    if (uninterrupted([&] { return calls().uring_wait(&s.ring, &done); }) != 0) {
      const int error = errno;
      s.is_broken = true;
      fail_call("wait for io_uring to write", s.file->name(), error);
    }
    const auto slot = static_cast<unsigned>(io_uring_cqe_get_data64(done));
    const auto count = calls().uring_result(done);
    const int error = errno;
    io_uring_cqe_seen(&s.ring, done);
    --in_flight_;  // also when it has failed
    WriteProgress& write = s.slots[slot];
    write.advance(count, error);
    if (write.is_whole()) return slot;
    submit(slot);
    ++in_flight_;
  }
}

// What a broken ring still has under way only reads: the kernel holds the pages
// until then, and the file is one that its writer gives up.
void WriteRing::drain() noexcept {
  while (in_flight_ > 0 && !state_->is_broken) {
    io_uring_cqe* done = nullptr;
    if (uninterrupted([&] { return calls().uring_wait(&state_->ring, &done); }) != 0) return;
    io_uring_cqe_seen(&state_->ring, done);
    --in_flight_;
  }
}

}  // namespace understudy::os
