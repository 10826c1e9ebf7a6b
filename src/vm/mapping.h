// Mappings of this process that end with their owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace understudy::vm {

/// A run of addresses, and what lies behind them. Made by one of the functions below; unmapped
/// at the end. Of at least a huge page, anonymous and shared ones begin at a multiple of it.
class Mapping {
 public:
  /// Addresses that belong to nobody else, without memory behind them. Reading gives zeros.
  /// Throws Error(no_space).
  static Mapping reserve(std::uint64_t nbytes);

  /// Private memory, zeroed when it is first touched. Throws Error(no_space) with how much is
  /// missing. What is smaller than a huge page is not asked about: it would take longer than
  /// making it.
  static Mapping anonymous(std::uint64_t nbytes);

  /// The beginning of a file or of shared memory, copied on write. Throws Error(io), which names
  /// `name`.
  static Mapping copy_on_write(int fd, std::uint64_t nbytes, const std::string& name);

  /// The beginning of shared memory itself. Throws Error(no_space); `what` is for the message.
  static Mapping shared(int fd, std::uint64_t nbytes, const char* what);

  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), nbytes_(std::exchange(other.nbytes_, 0)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();

  std::byte* data() const noexcept { return data_; }
  std::uint64_t nbytes() const noexcept { return nbytes_; }

  /// Makes the pages of [begin, begin + nbytes) of anonymous memory. Changes no bytes; threads may
  /// do it side by side; again is cheap. Throws Error(no_space).
  void touch(std::uint64_t begin, std::uint64_t nbytes);

 private:
  Mapping(std::byte* data, std::uint64_t nbytes) noexcept : data_(data), nbytes_(nbytes) {}

  std::byte* data_;  // null for an empty file
  std::uint64_t nbytes_;
};

/// Throws Error(no_space): pages could not be made, for this errno.
[[noreturn]] void fail_to_make(const char* what, std::uint64_t nbytes, int cause);

}  // namespace understudy::vm
