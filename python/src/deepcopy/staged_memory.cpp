// Where staged storages lie.
#include "deepcopy/staged_parts.h"
#include "frameworks/torch_memory.h"

namespace understudy::python {
namespace {

// Shared storages from this size on have a memory file of their own, which ends
// with them; smaller ones share segments.
constexpr std::uint64_t kOwnNbytes = std::uint64_t{32} << 20;
// Segments double with what there is, so that at most half of the last one is
// wasted and a small state takes little.
constexpr std::uint64_t kMinSegmentNbytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxSegmentNbytes = std::uint64_t{64} << 20;
// No file is smaller than this part of what the call has staged before, but for
// the first ones: 64 GiB take some 300 descriptors, whatever the sizes.
constexpr std::uint64_t kMostFiles = 64;
constexpr std::uint64_t kAlignment = 64;

}  // namespace

void StagedStorages::place(Staged& staged) {
  const auto nbytes = staged.nbytes;
  auto& home = staged.home;
  home = {};
  if (nbytes > 0 && !is_shared_) {
    auto buffer = mirror_->take(nbytes);
    home.address = buffer->data;
    home.memory = std::move(buffer);
  } else if (nbytes >= std::max(kOwnNbytes, shared_nbytes_ / kMostFiles)) {
    auto segment = make_segment(mirror_->take(nbytes));
    shared_nbytes_ += nbytes;
    home.address = segment->data();
    home.memory = std::move(segment);
  } else if (nbytes > 0) {
    // Segments of an earlier call are not added to: what lives long would keep
    // what is made anew at each call.
    if (!segment_ || segment_used_ + nbytes > segment_->nbytes()) {
      const auto most = std::max(kMaxSegmentNbytes, shared_nbytes_ / kMostFiles);
      const auto size = std::clamp(shared_nbytes_, kMinSegmentNbytes, most);
      segment_ = make_segment(mirror_->take(std::max(size, nbytes)));
      shared_nbytes_ += segment_->nbytes();
      segment_used_ = 0;
    }
    home.address = segment_->data() + segment_used_;
    home.memory = segment_;
    segment_used_ += (nbytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (nbytes > 0) copies_[home.address] = nbytes;
  import(home, nbytes);
}

void StagedStorages::import(Home& home, std::uint64_t nbytes) {
  struct Owned {
    std::shared_ptr<const void> memory;
    std::shared_ptr<void> lease;
  };
  auto owned = std::make_shared<Owned>(Owned{home.memory, lease_});
  home.there = owned;
  home.storage = is_shared_ ? storage_in_segment(torch_, home.address, nbytes, std::move(owned))
                            : storage_over(torch_, home.address, nbytes, std::move(owned));
}

// Somebody may have moved the storage of a result into other memory, as sending
// it to another process can do. It is written where it is now. False when it
// has another size there.
bool StagedStorages::find(Home& home, std::uint64_t nbytes) {
  if (nbytes == 0) {
    if (!home.storage.is_valid()) import(home, nbytes);
    return true;
  }
  if (!home.storage.is_valid()) {
    import(home, nbytes);
  } else if (home.memory && home.there.expired()) {
    home.memory.reset();
  }
  if (home.memory) return true;
  if (number(nbytes_of_, home.storage.ptr()) != nbytes) return false;
  auto* const now = reinterpret_cast<std::byte*>(number(data_ptr_of_, home.storage.ptr()));
  if (now != home.address) {
    copies_.erase(home.address);
    copies_[now] = nbytes;
    home.address = now;
    ++moves_;
  }
  return true;
}

bool StagedStorages::is_in_copies(const std::byte* data, std::uint64_t nbytes) const {
  const auto after = copies_.lower_bound(data + nbytes);
  if (after == copies_.begin()) return false;
  const auto last = std::prev(after);
  return last->first + last->second > data;
}

}  // namespace understudy::python
