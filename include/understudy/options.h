// Choices that several calls share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace understudy {

/// What images are made of. `automatic` takes pinned in a process that uses CUDA
/// when its first image is made, else pageable. Asking for pinned starts CUDA.
enum class Memory { automatic, pageable, pinned, shared };
/// How a snapshot is taken. `blocking`: before the call returns. `overlapped`:
/// after the call, from pages that are protected until they are copied; an error
/// where that is impossible. `automatic`: overlapped where it is safe and costs
/// training less than a stop (the image is not new, and cores were idle, or huge
/// pages are asked for), else blocking, and the ticket says why.
enum class Capture { automatic, blocking, overlapped };
/// What `stage` does when every image is leased.
enum class WhenBusy { wait, skip, error };

/// Where folders in memory are on Linux.
inline constexpr const char* kMemoryFolder = "/dev/shm";

/// Whether the newest captured state outlives the process: then images are files in a folder in
/// memory (a tmpfs), from which the next run resumes. They end with the machine.
class Survive {
 public:
  /// Off, or in kMemoryFolder.
  Survive(bool is_on = false) : folder_(is_on ? kMemoryFolder : "") {}
  /// In this folder, which must lie in a tmpfs.
  Survive(std::filesystem::path folder) : folder_(std::move(folder)) {}
  /// In this folder.
  Survive(const char* folder) : folder_(folder) {}

  /// Whether it is on.
  bool is_on() const noexcept { return !folder_.empty(); }
  /// Empty when it is off.
  const std::filesystem::path& folder() const noexcept { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// What happens where images cannot survive, because the folder in memory cannot be used or has no
/// space: an error, or images that end with the process, and Metrics::memory says why.
enum class WhenNoRoom { error, go_on };

/// Where a step is read from. `automatic` takes the newest that is whole: from memory where images
/// survive, else from the disk.
enum class Source { automatic, memory, disk };

/// How files are written. `automatic` takes the best that the folder takes, in
/// this order; each of the others is Error(unsupported) where it cannot be.
enum class WriterChoice {
  automatic,
  io_uring,  ///< past the page cache, through io_uring
  threads,   ///< past the page cache, by threads
  buffered,  ///< through the page cache, which the written blocks leave again
};

/// Which complete steps stay after a save. A step stays if any of the three says
/// so, and the newest always does. An int is a rule: `.keep = 3`.
struct Keep {
  /// Whether the smallest or the largest numbers are the best.
  enum class Order { min, max };
  /// The `count` steps whose metadata has the smallest, or the largest, number
  /// under `key`. A step without such a number, or with NaN, is never among them;
  /// of equal ones the newer is.
  struct Best {
    std::string key;           ///< of the number in the metadata
    Order order = Order::min;  ///< which numbers are the best
    int count = 1;             ///< so many steps stay
  };

  /// The rule of these three parts.
  Keep(int last = 1, std::int64_t every = 0, std::optional<Best> best = {})
      : last(last), every(every), best(std::move(best)) {}

  int last;                  ///< so many of the newest, by number; at least 1
  std::int64_t every;        ///< each whose number is a multiple of it; 0: none
  std::optional<Best> best;  ///< absent: none
};

/// User metadata of a single file: text to text.
using FileMetadata = std::map<std::string, std::string>;

}  // namespace understudy
