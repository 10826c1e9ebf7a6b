// What the machine has, and memory from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace understudy::os {

/// Cores that this process may run on (affinity and control group), at least 1.
int usable_cores();

/// Bytes of memory that can still be had: the machine's and the control
/// group's, whichever is less.
std::uint64_t available_memory();

/// Throws Error(no_space), naming `what` ("an image") and how much is missing,
/// when `nbytes` cannot be had.
void require_memory(const char* what, std::uint64_t nbytes);

/// Shared anonymous memory with a descriptor: the ground of an image. Space is
/// reserved before it is mapped. The mapping is not inherited by forked
/// children.
class SharedMapping {
 public:
  /// Throws Error(no_space) with how much is missing.
  explicit SharedMapping(std::uint64_t nbytes);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::uint64_t nbytes() const noexcept { return nbytes_; }
  int fd() const noexcept { return fd_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t nbytes_ = 0;
  int fd_ = -1;
};

/// Private memory of small pages, zeroed when it is first touched. The machine
/// is asked first whether it has that much.
class AnonymousMapping {
 public:
  /// Throws Error(no_space) with how much is missing.
  explicit AnonymousMapping(std::uint64_t nbytes);
  ~AnonymousMapping();
  AnonymousMapping(const AnonymousMapping&) = delete;
  AnonymousMapping& operator=(const AnonymousMapping&) = delete;

  std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t nbytes_ = 0;
};

/// Addresses that belong to nobody else, without memory behind them. Reading
/// gives zeros.
class ReservedAddresses {
 public:
  explicit ReservedAddresses(std::uint64_t nbytes);
  ~ReservedAddresses();
  ReservedAddresses(const ReservedAddresses&) = delete;
  ReservedAddresses& operator=(const ReservedAddresses&) = delete;

  std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t nbytes_ = 0;
};

/// Makes the pages of [data, data + nbytes) at once and not fault by fault.
/// Only a hint; it changes no bytes.
void populate(std::byte* data, std::uint64_t nbytes) noexcept;

/// A private copy-on-write mapping of a file or of shared memory, from its
/// beginning. Ends with the object.
class PrivateMapping {
 public:
  PrivateMapping(int fd, std::uint64_t nbytes, const std::string& name);
  ~PrivateMapping();
  PrivateMapping(const PrivateMapping&) = delete;
  PrivateMapping& operator=(const PrivateMapping&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::uint64_t nbytes() const noexcept { return nbytes_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t nbytes_ = 0;
};

}  // namespace understudy::os
