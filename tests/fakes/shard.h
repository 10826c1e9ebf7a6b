// A safetensors file to be, made of bytes that a test chooses.
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "format/integrity.h"
#include "store/source.h"

namespace understudy::fakes {

/// Bytes that differ from place to place and from seed to seed.
inline std::string pattern(std::size_t nbytes, unsigned seed) {
  std::string out(nbytes, '\0');
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (char& c : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(state >> 56);
  }
  return out;
}

/// Each entry is raw bytes. With `in_place` blocks lie in memory already, as an
/// image's do; else they are filled into scratch, as save_file's are.
class Shard final : public store::ShardSource {
 public:
  explicit Shard(const std::vector<std::pair<std::string, std::string>>& entries,
                 bool in_place = true)
      : in_place_(in_place) {
    for (const auto& [name, bytes] : entries) {
      entries_.push_back({.name = name,
                          .dtype = "U8",
                          .shape = {bytes.size()},
                          .begin = nbytes_,
                          .end = nbytes_ + bytes.size()});
      nbytes_ += bytes.size();
    }
    const std::uint64_t room = round_up<std::uint64_t>(nbytes_ + 1, 4096);
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, room)));
    std::memset(memory_.get(), 0, room);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      std::memcpy(memory_.get() + entries_[i].begin, entries[i].second.data(),
                  entries[i].second.size());
    }
    // Checksums and entries of a test fit in the first page; more of either
    // takes more pages.
    header_nbytes_ = round_up<std::uint64_t>(
        1024 + 256 * entries_.size() + 16 * format::block_count(nbytes_), 4096);
  }

  std::uint64_t header_nbytes() const override { return header_nbytes_; }
  std::uint64_t data_nbytes() const override { return nbytes_; }

  std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override {
    const std::uint64_t begin = index * format::kBlockNbytes;
    const std::uint64_t nbytes = std::min(format::kBlockNbytes, nbytes_ - begin);
    if (in_place_) return {memory_.get() + begin, nbytes};
    std::memset(scratch.data(), 0xEE, scratch.size());  // what a buffer had before
    std::memcpy(scratch.data(), memory_.get() + begin, nbytes);
    return scratch.first(nbytes);
  }

  std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                              std::string& digest) override {
    return format::write_sealed_header(entries_, {}, "[]", checksums, header_nbytes_, digest);
  }

  std::span<const std::byte> data() const { return {memory_.get(), nbytes_}; }

 private:
  struct FreeMemory {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  const bool in_place_;
  std::vector<format::Entry> entries_;
  std::unique_ptr<std::byte, FreeMemory> memory_;
  std::uint64_t nbytes_ = 0;
  std::uint64_t header_nbytes_ = 0;
};

/// A shard of two entries, small, whose bytes depend on `seed`.
inline Shard small_shard(unsigned seed) {
  return Shard({{"w", pattern(1000, seed)}, {"b", pattern(37, seed + 1)}});
}

/// A small shard during whose writing something happens.
class EventfulShard final : public store::ShardSource {
 public:
  EventfulShard(unsigned seed, std::function<void()> event)
      : shard_(small_shard(seed)), event_(std::move(event)) {}

  std::uint64_t header_nbytes() const override { return shard_.header_nbytes(); }
  std::uint64_t data_nbytes() const override { return shard_.data_nbytes(); }
  std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override {
    event_();
    return shard_.block(index, scratch);
  }
  std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                              std::string& digest) override {
    return shard_.seal(checksums, digest);
  }

 private:
  Shard shard_;
  const std::function<void()> event_;
};

}  // namespace understudy::fakes
