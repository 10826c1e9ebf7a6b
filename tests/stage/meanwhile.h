// Memory that a test does things to while it is captured.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstring>

#include "fakes/planted_protection.h"
#include "stage/overlapping.h"
#include "understudy/stager.h"

namespace understudy::fakes {

// A mapping that the test may take away. Borrowed: nobody keeps it alive.
class Mapped {
 public:
  explicit Mapped(std::uint64_t nbytes, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : nbytes_(nbytes),
        data_(static_cast<std::byte*>(
            ::mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, flags, fd, 0))) {}
  ~Mapped() { ::munmap(data_, nbytes_); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

  std::byte* data() const { return data_; }
  std::uint64_t nbytes() const { return nbytes_; }
  void fill(int value) { std::memset(data_, value, nbytes_); }
  Value state() const { return Value::dict({{"model", Value::dict({{"weight", tensor()}})}}); }
  Tensor tensor() const {
    return Tensor::borrow(data_, DType::u8, {static_cast<std::int64_t>(nbytes_)});
  }

 private:
  std::uint64_t nbytes_;
  std::byte* data_;
};

inline bool holds_only(const Tensor& t, int value) {
  for (std::uint64_t i = 0; i < t.nbytes(); ++i) {
    if (std::to_integer<int>(t.data()[i]) != value) return false;
  }
  return true;
}

inline Tensor weight(const Snapshot& snapshot) {
  return snapshot.state().at("model").at("weight").as_tensor();
}

// Holds up all copying until it is over.
class Meanwhile {
 public:
  explicit Meanwhile(PlantedProtection& planted) {
    planted.before_copy = [this](const std::byte* from) {
      if (from >= watched_) {
        is_reached_ = true;
        is_reached_.notify_all();
      }
      is_over_.wait(false);
    };
  }
  // Copiers begin in front and are held there; so a copy behind this address is
  // the server's, for a write that waits.
  void watch(const std::byte* address) { watched_ = address; }
  void wait_for_a_writer() { is_reached_.wait(false); }
  void over() {
    is_over_ = true;
    is_over_.notify_all();
  }

 private:
  std::atomic<bool> is_over_{false}, is_reached_{false};
  std::atomic<const std::byte*> watched_{reinterpret_cast<const std::byte*>(~std::uintptr_t{0})};
};

// Memory full of ones, and a stager whose copying is held up until it is over.
struct HeldUp {
  HeldUp() { memory.fill(1); }

  const Limit limit{60};
  PlantedProtection planted;
  Meanwhile meanwhile{planted};
  Mapped memory{std::uint64_t{32} << 20};
  Stager stager{{.capture = Capture::overlapped}};
};

// More than the copiers can hold at once: 8 of them, a chunk each.
inline constexpr std::uint64_t kFarOff = std::uint64_t{24} << 20;

}  // namespace understudy::fakes
