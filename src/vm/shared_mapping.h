// Shared memory, whose pages are made when somebody says so.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "vm/mapping.h"

namespace understudy::vm {

/// What forked children have of a mapping.
enum class Children { nothing, the_same };

/// Shared anonymous memory with a descriptor: the ground of an image.
class SharedMapping {
 public:
  /// Reserves addresses and no pages, but asks whether the machine has that
  /// much. Throws Error(no_space) with how much is missing.
  explicit SharedMapping(std::uint64_t nbytes, Children children = Children::nothing);
  /// Maps what somebody else has made, for children too or not. The descriptor is ours from
  /// now on, also when it throws: Error(invalid), Error(no_space).
  SharedMapping(int fd, std::uint64_t nbytes, Children children = Children::the_same);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  /// Makes the pages of [begin, begin + nbytes), huge ones where a whole one
  /// fits and the machine gives it. Changes no bytes; threads may do it side by
  /// side; again is cheap. Throws Error(no_space): nothing here ever ends in a
  /// SIGBUS of whoever writes later.
  void touch(std::uint64_t begin, std::uint64_t nbytes);

  std::byte* data() const noexcept { return mapping_->data(); }
  std::uint64_t nbytes() const noexcept { return mapping_->nbytes(); }
  int fd() const noexcept { return fd_; }
  /// "huge pages", "small pages (why)" or both; "no pages" while none were made.
  std::string describe_pages() const;

 private:
  void touch_small(std::uint64_t begin, std::uint64_t nbytes);

  int fd_ = -1;
  std::optional<Mapping> mapping_;
  std::atomic<bool> has_huge_{false}, has_small_{false};
  std::atomic<int> refusal_{0};  // errno of the first huge page that was refused
};

}  // namespace understudy::vm
