#include "memory/region.h"

#include <algorithm>
#include <utility>

#include "vm/pages.h"

namespace understudy::memory {
namespace {

// Made in one go. A call for huge shared pages first has every processor empty
// its list of fresh pages, which two huge pages should share; more in one go
// was not faster (measured: 85 ms a GiB by 2 MiB, 92 ms by 8 MiB, 97-129 ms by
// 32 MiB), and leaves less to share out among threads.
constexpr std::uint64_t kPieceNbytes = 2 * vm::kHugePageNbytes;

std::variant<vm::Mapping, vm::SharedMapping> map(Sharing sharing, std::uint64_t nbytes) {
  using Mapping = std::variant<vm::Mapping, vm::SharedMapping>;
  if (sharing == Sharing::is_private) return Mapping(vm::Mapping::anonymous(nbytes));
  const auto children =
      sharing == Sharing::is_inherited ? vm::Children::the_same : vm::Children::nothing;
  return Mapping(std::in_place_index<1>, nbytes, children);
}

int take_descriptor(os::File file) noexcept {
  const int fd = file.fd();
  file.leak();
  return fd;
}

}  // namespace

Region::Region(Sharing sharing, std::uint64_t nbytes, std::shared_ptr<device::CudaContext> context)
    : mapping_(map(sharing, nbytes)), context_(std::move(context)), is_touched_(pieces()) {}

Region::Region(os::File file, std::uint64_t nbytes, std::shared_ptr<device::CudaContext> context)
    : mapping_(std::in_place_index<1>, take_descriptor(std::move(file)), nbytes,
               vm::Children::nothing),
      context_(std::move(context)),
      is_touched_(pieces()) {}

std::byte* Region::data() const noexcept {
  return std::visit([](const auto& m) { return m.data(); }, mapping_);
}

std::uint64_t Region::nbytes() const noexcept {
  return std::visit([](const auto& m) { return m.nbytes(); }, mapping_);
}

int Region::fd() const noexcept {
  const auto* const shared = std::get_if<vm::SharedMapping>(&mapping_);
  return shared != nullptr ? shared->fd() : -1;
}

std::uint64_t Region::pieces() const noexcept {
  return (nbytes() + kPieceNbytes - 1) / kPieceNbytes;
}

std::uint64_t Region::begin_of(std::uint64_t piece) const noexcept {
  return piece * kPieceNbytes;
}

std::uint64_t Region::nbytes_of(std::uint64_t piece) const noexcept {
  return std::min(kPieceNbytes, nbytes() - begin_of(piece));
}

void Region::touch(std::uint64_t begin, std::uint64_t nbytes) {
  std::visit([&](auto& m) { m.touch(begin, nbytes); }, mapping_);
}

void Region::touch_piece(std::uint64_t piece) {
  if (is_touched_[piece].load(std::memory_order_acquire)) return;
  touch(begin_of(piece), nbytes_of(piece));
  is_touched_[piece].store(true, std::memory_order_release);
}

void Region::touch_ahead(std::uint64_t begin, std::uint64_t nbytes) {
  const auto last = (begin + nbytes + kPieceNbytes - 1) / kPieceNbytes;
  for (auto piece = begin / kPieceNbytes; piece < last; ++piece) {
    if (is_touched_[piece].exchange(true, std::memory_order_acq_rel)) continue;
    try {
      touch(begin_of(piece), nbytes_of(piece));
    } catch (...) {
      is_touched_[piece].store(false, std::memory_order_release);
      throw;
    }
  }
}

void Region::pin() {
  const std::lock_guard lock(pinning_);
  if (context_ && !pinned_) pinned_.emplace(context_, data(), nbytes());
  is_prepared_.store(true, std::memory_order_release);
}

void prepare_all(const std::vector<Region*>& regions, WorkerPool& workers,
                 const OnPages& on_pages) {
  struct Piece {
    Region* region;
    std::uint64_t index;
  };
  std::vector<Piece> pieces;
  std::vector<Region*> unprepared;
  for (auto* const region : regions) {
    if (region->is_prepared()) continue;
    unprepared.push_back(region);
    for (std::uint64_t i = 0; i < region->pieces(); ++i) pieces.push_back({region, i});
  }
  workers.run(pieces.size(), [&](std::uint64_t i, int) {
    auto& region = *pieces[i].region;
    region.touch_piece(pieces[i].index);
    const auto piece = pieces[i].index;
    if (on_pages) on_pages(region.begin_of(piece), region.nbytes_of(piece));
  });
  workers.run(unprepared.size(), [&](std::uint64_t i, int) { unprepared[i]->pin(); });
}

bool Region::prepare_piece(std::uint64_t& cursor) {
  if (is_prepared()) return false;
  if (cursor < nbytes()) {
    touch_piece(cursor / kPieceNbytes);
    cursor = std::min(cursor + kPieceNbytes, nbytes());
  } else {
    pin();
  }
  return true;
}

std::string Region::describe_pages() const {
  const auto* const shared = std::get_if<vm::SharedMapping>(&mapping_);
  return shared != nullptr ? shared->describe_pages() : "";
}

}  // namespace understudy::memory
