// What kind of memory lies where in this process.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace understudy::vm {

struct MappedRange {
  enum class Kind {
    anonymous,  ///< private, writable, without a file: malloc's and mmap's
    shared,     ///< shared with others, or with itself elsewhere
    file,       ///< private, over a file
    special,    ///< a stack, the kernel's own, or not writable
  };

  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  Kind kind = Kind::special;
};

/// A look at all mappings, at one time. They change when the program wants.
class MemoryMap {
 public:
  /// Throws Error(io) when the kernel does not tell.
  static MemoryMap of_this_process();
  /// Of a text like /proc/self/maps.
  static MemoryMap of_text(const std::string& text);

  /// The mappings that hold [begin, end), one after another; none when a part
  /// of it is not mapped.
  std::span<const MappedRange> covering(std::uintptr_t begin, std::uintptr_t end) const noexcept;
  const std::vector<MappedRange>& all() const noexcept { return all_; }

 private:
  std::vector<MappedRange> all_;  // ascending
};

}  // namespace understudy::vm
