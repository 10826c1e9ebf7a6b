// Writing one file durably: checksums on the way, direct I/O where the folder
// takes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "os/file.h"
#include "store/source.h"

namespace understudy::store {

/// Figures of a file that was written.
struct Written {
  std::uint64_t nbytes = 0;
  std::string digest;  ///< of the header
  std::string writer;  ///< "direct" or "buffered (why not direct)"
};

/// Reads and writes under way at once. A disk of today is near its limit at
/// this depth; with fewer it waits for us.
inline constexpr int kDeviceDepth = 8;

/// Writes files. Holds its threads and its scratch memory between calls. One
/// call at a time.
class Writer {
 public:
  /// `threads` 0: kDeviceDepth. They wait for the disk, so cores do not count.
  /// With `low_priority` the threads give way to the trainer's; else somebody waits for them.
  explicit Writer(int threads = 0, bool low_priority = false);
  ~Writer();

  /// Creates `name` in `directory` (it must not exist), reserves its space,
  /// writes it, cuts it to its exact size and calls fsync. `done` counts bytes;
  /// `created` is called when the file is there and empty. On failure the file
  /// may be left behind: the caller removes it.
  Written write(const os::Directory& directory, const std::string& name, ShardSource& source,
                std::atomic<std::uint64_t>* done = nullptr,
                const std::function<void()>& created = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace understudy::store
