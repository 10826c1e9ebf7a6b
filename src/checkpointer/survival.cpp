#include "checkpointer/survival.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/thread.h"
#include "format/hash.h"
#include "format/integrity.h"
#include "store/look.h"

namespace understudy {

namespace {

// As many as write: they take what the trainer leaves.
constexpr int kHashers = 2;

}  // namespace

struct Survival::Job {
  std::int64_t step;
  std::shared_ptr<Capturing> capturing;
  std::string metadata_json;
};

Survival::Survival(const CheckpointerOptions& options, const RunFolder& run)
    : root_(options.survive.folder()),
      goes_on_(options.when_no_room == WhenNoRoom::go_on),
      run_(run),
      world_(survive::World::of(run.directory())),
      hashers_("us-seal", kHashers, /*low_priority=*/true) {}

// The folder is opened and let go without the mutex: both take the registry of locks, which
// take_over is called under.
void Survival::open() {
  {
    const std::lock_guard lock(mutex_);
    if (folder_) return;
  }
  try {
    auto folder = survive::MemoryFolder::open(root_, run_.directory());
    const std::lock_guard lock(mutex_);
    folder_ = std::move(folder);
  } catch (const Error& error) {
    const std::lock_guard lock(mutex_);
    why_not_ = error.what();
    if (!goes_on_) throw;
  }
}

// What is there is of whoever had the run's lock last, or of nobody that counts.
void Survival::take_over(const std::string& before, const std::string& now) {
  const std::lock_guard lock(mutex_);
  if (!folder_) return;
  try {
    hand_over(before, now);
  } catch (const Error& error) {
    if (!goes_on_) throw;
    why_not_ = error.what();
    is_usable_ = false;  // and let go at the end: the registry of locks waits for this call
  }
}

void Survival::hand_over(const std::string& before, const std::string& now) {
  const auto& directory = folder_->directory();
  const auto stranger = survive::continued_by(directory, before);
  if (!stranger.empty()) {
    for (const auto& gone : survive::look_at(directory, world_)) {
      given_up_.push_back({gone.step, "in memory: " + stranger});
    }
    survive::remove_steps(folder_->lock(), [](std::int64_t) { return false; });
  }
  survive::set_holders(directory, stranger.empty() ? before : now, now);
  is_settled_ = true;
}

void Survival::settle(const std::string& holder) {
  {
    const std::lock_guard lock(mutex_);
    if (is_settled_) return;
  }
  take_over(holder, holder);
}

memory::MakeImageFile Survival::make_files() {
  return [this](std::uint64_t nbytes, std::string& why_not) -> std::optional<memory::ImageFile> {
    const auto memory = folder();
    if (!memory) {
      const std::lock_guard lock(mutex_);
      if (!goes_on_) fail(ErrorCode::io, "images cannot survive: {}", why_not_);
      why_not = why_not_;
      return {};
    }
    try {
      return memory->make_file(nbytes);
    } catch (const Error& error) {
      if (!goes_on_) throw;
      why_not = error.what();
      return {};
    }
  };
}

std::shared_ptr<survive::MemoryFolder> Survival::folder() const {
  const std::lock_guard lock(mutex_);
  return is_usable_ ? folder_ : nullptr;
}

const os::Directory& Survival::directory() const {
  const std::lock_guard lock(mutex_);
  if (!folder_ || !is_usable_)
    fail(ErrorCode::not_found, "no memory of {}: {}", run_.path().native(), why_not_);
  return folder_->directory();
}

std::shared_future<SealedChecksums> Survival::seal(std::int64_t step,
                                                   const std::shared_ptr<Capturing>& capturing,
                                                   const std::string& metadata_json,
                                                   const std::shared_ptr<TicketState>& ticket) {
  auto promise = std::make_shared<std::promise<SealedChecksums>>();
  auto future = promise->get_future().share();
  {
    const std::lock_guard lock(mutex_);
    has_sealed_ = true;
  }
  sealer_.post([this, promise, ticket, job = Job{step, capturing, metadata_json}] {
    yield_to_others();
    SealedChecksums checksums;
    std::string outcome = "sealed";
    try {
      checksums = seal_now(job);
    } catch (const std::exception& error) {
      outcome = error.what();
    }
    {
      const std::lock_guard lock(ticket->mutex);
      ticket->metrics.survival = outcome;
      if (outcome == "sealed") ticket->metrics.sealed_s = ticket->elapsed();
    }
    promise->set_value(std::move(checksums));
  });
  return future;
}

// The steps of docs/survival.md.
SealedChecksums Survival::seal_now(const Job& job) {
  const auto contents = job.capturing->wait_contents();
  const auto memory = folder();
  if (!memory || contents.image->file_name().empty()) {
    fail(ErrorCode::no_space, "does not survive: {}", contents.image->describe());
  }
  const auto& layout = *contents.layout;
  auto* const image = contents.image->data();
  // 2. The checksums of the data.
  SealedChecksums checksums(format::block_count(layout.data_nbytes));
  hashers_.run(checksums.size(), [&](std::uint64_t i, int) {
    const auto begin = i * format::kBlockNbytes;
    const auto nbytes = std::min(format::kBlockNbytes, layout.data_nbytes - begin);
    checksums[i] = format::hash64({image + layout.header_nbytes + begin, nbytes});
  });
  // 3. The header, its length last.
  survive::SealedImage sealed{.step = job.step,
                              .file = contents.image->file_name(),
                              .nbytes = layout.file_nbytes(),
                              .digest = {},
                              .metadata_json = job.metadata_json};
  const auto header =
      format::write_sealed_header(layout.entries, header_metadata({}), contents.tree, checksums,
                                  layout.header_nbytes, sealed.digest);
  std::memcpy(image + format::kPrefixNbytes, header.data() + format::kPrefixNbytes,
              header.size() - format::kPrefixNbytes);
  // A process that is killed has done all before that in the program's order: the compiler's.
  std::atomic_signal_fence(std::memory_order_release);
  std::memcpy(image, header.data(), format::kPrefixNbytes);
  // 4. Its exact length; 5. its name.
  contents.image->set_file_length(sealed.nbytes);
  survive::seal(memory->lock(), sealed, world_);
  const std::lock_guard lock(mutex_);
  held_.push_back(contents.image);
  // 6. What was sealed before goes, and only then may be filled again.
  survive::remove_steps(memory->lock(), [&](std::int64_t step) { return step == job.step; });
  held_.erase(held_.begin(), held_.end() - 1);
  return checksums;
}

std::vector<survive::Survivor> Survival::survivors() const {
  const auto memory = folder();
  if (!memory) return {};
  return survive::look_at(memory->directory(), world_);
}

std::vector<ResumeReport::Skipped> Survival::given_up() const {
  const std::lock_guard lock(mutex_);
  return given_up_;
}

void Survival::let_go(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  let_go_.insert(step);
  // Of a long run only the newest can be in memory.
  constexpr std::size_t kMost = 16;
  if (let_go_.size() > kMost) let_go_.erase(let_go_.begin());
}

void Survival::discard_above(std::int64_t step) {
  const auto memory = folder();
  if (!memory) return;
  survive::remove_steps(memory->lock(), [step](std::int64_t number) { return number <= step; });
}

// What is under way: of a save that was dropped, nobody else waits for it.
void Survival::finish_sealing() {
  {
    const std::lock_guard lock(mutex_);
    if (!has_sealed_) return;
  }
  std::promise<void> last;
  sealer_.post([&] { last.set_value(); });
  last.get_future().wait();
}

void Survival::close() noexcept {
  try {
    finish_sealing();
  } catch (const std::exception&) {
    // There is no memory for the task.
  }
  std::shared_ptr<survive::MemoryFolder> folder;
  std::vector<memory::Lease> held;
  const std::lock_guard lock(mutex_);
  if (!folder_) return;
  try {
    std::set<std::int64_t> kept;
    const auto newest =
        store::find_newest_step(run_.directory(), [](std::int64_t) { return true; });
    for (const auto& survivor : survive::look_at(folder_->directory(), world_)) {
      const bool is_older = held_.empty() && newest && survivor.step <= newest->step;
      if (survivor.problem.empty() && !is_older && !let_go_.contains(survivor.step)) {
        kept.insert(survivor.step);
      }
    }
    survive::remove_steps(folder_->lock(), [&](std::int64_t step) { return kept.contains(step); });
  } catch (const std::exception&) {
    // The next run takes or clears what is left.
  }
  held.swap(held_);
  folder.swap(folder_);
  why_not_ = "the checkpointer is closed";
}

}  // namespace understudy
