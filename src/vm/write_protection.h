// Write protection of pages of this process, by userfaultfd. A thread that
// writes to a protected page waits, inside the kernel too, until it is lifted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "os/event.h"

namespace understudy::vm {

/// A descriptor of userfaultfd, not yet greeted; or none, and why.
struct OpenedUserfault {
  int fd = -1;
  std::string detail;       ///< by which way it was opened, or why it was not
  std::string_view remedy;  ///< the command that would help; empty when none does
};

/// Opens it so that faults from inside the kernel are served too. Tries
/// /dev/userfaultfd, then the system call.
OpenedUserfault open_userfault();

/// Greets it and asks for what overlapped capture needs. Empty, or what this
/// kernel lacks. The descriptor stays open.
std::string greet_userfault(int fd);

/// Registers mappings, protects and lifts ranges of whole pages. All members
/// but `add` and the ends may be called from any thread, allocate nothing and
/// take no lock.
class WriteProtection {
 public:
  /// Throws Error(unsupported) with the reason and the command that helps.
  WriteProtection();
  /// Takes every mapping out again before it closes: a forked child may hold
  /// the descriptor, and closing ours would then leave pages protected.
  ~WriteProtection();
  WriteProtection(const WriteProtection&) = delete;
  WriteProtection& operator=(const WriteProtection&) = delete;

  /// Registers a whole private anonymous mapping, once. Registering a part
  /// would cut it in two. False when somebody else's userfaultfd has it.
  bool add(std::uintptr_t begin, std::uintptr_t end);

  /// False when a part is not registered, because it was mapped anew since: then
  /// other parts may be protected. What is not mapped at all is passed over.
  bool protect(std::uintptr_t begin, std::uint64_t nbytes) noexcept;
  /// Lifts it, and wakes who waits for it. False when a part is not registered:
  /// they are woken all the same, and the other parts are lifted.
  bool lift(std::uintptr_t begin, std::uint64_t nbytes) noexcept;
  enum class Answer {
    yes,
    no,
    none,  ///< the kernel was not asked: the descriptor for that is no longer ours
  };
  /// Whether every page of the range has been protected without a break since
  /// `protect`: none was lifted, dropped, or mapped anew.
  Answer is_protected(std::uintptr_t begin, std::uint64_t nbytes) const noexcept;

  /// Empty, or what is not possible any more of that which was when this was made: the program
  /// has closed a descriptor of ours, or given up the right to a system call.
  std::string why_not() const;

  /// The addresses of writes that wait, at most as many as fit. Waits for one, or
  /// for `interrupt` (which is left set). A negative count: the descriptor is no
  /// longer ours.
  int wait_for_writes(std::array<std::uintptr_t, 16>& addresses,
                      const os::Event& interrupt) noexcept;
  /// Writes wait that nobody has taken yet.
  bool has_waiting_writes() const noexcept;

  /// In a forked child: closes what it inherited. Nothing else may be called
  /// there, the end included.
  void abandon() noexcept;

 private:
  struct Range {
    std::uintptr_t begin, end;
  };

  bool has_userfault() const noexcept;
  bool has_pagemap() const noexcept;

  int fd_ = -1;
  int pagemap_ = -1;
  std::vector<Range> added_;
};

enum class CopyResult {
  done,
  not_mapped,  ///< a part of `from` is not
  refused,     ///< this process may not (any more) make the system call
};
/// Copies `nbytes` from anywhere in this process, without a signal where it cannot.
CopyResult copy_fault_proof(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept;
/// Tries it. Empty, or why this process may not.
std::string why_no_copy();

}  // namespace understudy::vm
