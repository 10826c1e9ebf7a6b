#include "restore/stored_bytes.h"

#include <algorithm>

#include "ranks/part_runs.h"
#include "ranks/ranges.h"

namespace understudy::restore {
namespace {

// Longer runs are read straight to their place. Of shorter ones there may be millions: their bytes
// pass through a thread's own memory, block by block.
constexpr std::uint64_t kLongRun = std::uint64_t{128} << 10;

// Addresses cost nothing, a mapping for each chunk would.
constexpr std::uint64_t kRoomNbytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kAlignment = 64;

}  // namespace

void StoredBytes::add_file(const store::ShardReader& file, BlockReader& reader) {
  files_.push_back({Addresses(file), &reader});
  const auto* begin = files_.back().addresses.begin();
  places_[begin] = {begin + file.header().data_nbytes, files_.size() - 1};
}

std::shared_ptr<const Storage> StoredBytes::put_together(ranks::Chunk wanted,
                                                         std::uint64_t item_nbytes,
                                                         std::vector<StoredPart> parts) {
  const auto nbytes = static_cast<std::uint64_t>(ranks::numel(wanted)) * item_nbytes;
  if (room_nbytes_ - room_used_ < nbytes) {
    room_nbytes_ = std::max(kRoomNbytes, nbytes);
    room_ = std::make_shared<vm::Mapping>(vm::Mapping::reserve(room_nbytes_));
    room_used_ = 0;
  }
  auto* const begin = room_->data() + room_used_;
  room_used_ = std::min(room_nbytes_, (room_used_ + nbytes + kAlignment - 1) & ~(kAlignment - 1));
  joined_.push_back({std::move(wanted), item_nbytes, nbytes, std::move(parts)});
  places_[begin] = {begin + nbytes, 0, &joined_.back()};
  return std::make_shared<Storage>(begin, nbytes, room_);
}

const std::pair<const std::byte* const, StoredBytes::Place>* StoredBytes::find(
    const std::byte* at) const {
  auto place = places_.upper_bound(at);
  if (place == places_.begin()) return nullptr;
  --place;
  return at < place->second.end ? &*place : nullptr;
}

bool StoredBytes::has_run(const Tensor& t) const {
  const auto* place = find(t);
  if (place == nullptr || !t.is_contiguous()) return false;
  const auto* joined = place->second.joined;
  return joined == nullptr || t.nbytes() == joined->nbytes;
}

void StoredBytes::add(Reading& reading, const std::byte* from, std::uint64_t nbytes, std::byte* to,
                      bool is_fresh) const {
  if (nbytes == 0) return;
  reading.resize(files_.size());
  const auto& [begin, place] = *find(from);
  if (place.joined == nullptr) {
    const auto offset = static_cast<std::uint64_t>(from - begin);
    reading[place.file].push_back({offset, nbytes, to, is_fresh});
    return;
  }
  for (const auto& part : place.joined->parts) add_part(reading, *place.joined, part, to);
}

void StoredBytes::add_part(Reading& reading, const Joined& joined, const StoredPart& part,
                           std::byte* to) const {
  const auto& [begin, place] = *find(part.at);
  auto& destinations = reading[place.file];
  const auto base = static_cast<std::uint64_t>(part.at - begin);
  const ranks::PartRuns runs(part.stored, joined.wanted, part.part, joined.item_nbytes);
  if (runs.count() == 1 || runs.run_nbytes() >= kLongRun) {
    for (std::uint64_t i = 0; i < runs.count(); ++i) {
      const auto run = runs.run(i);
      destinations.push_back({base + run.from, runs.run_nbytes(), to + run.to});
    }
    return;
  }
  // What lies between runs that are less than a block apart is read in any case.
  for (const auto& range :
       ranks::ranges_of(part.stored, part.part, joined.item_nbytes, base, format::kBlockNbytes)) {
    destinations.push_back({range.begin, range.nbytes, nullptr, false,
                            [runs, base, to](std::uint64_t at, std::span<const std::byte> piece) {
                              runs.copy(at - base, piece, to);
                            }});
  }
}

void StoredBytes::read(Reading reading) const {
  for (std::size_t i = 0; i < reading.size(); ++i) {
    if (reading[i].empty()) continue;
    auto& reader = *files_[i].reader;
    reader.read(std::move(reading[i]));
    if (files_.size() > 1) reader.rest();  // of a thousand files, a thousand times its memory
  }
}

void StoredBytes::verify(const Reading& reading) const {
  auto only_verified = reading;
  for (auto& file : only_verified) {
    for (auto& destination : file) {
      destination = {.begin = destination.begin, .nbytes = destination.nbytes};
    }
  }
  read(std::move(only_verified));
}

}  // namespace understudy::restore
