// Writing one file durably: checksums on the way, by the writer that suits the
// folder.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "os/file.h"
#include "store/pace.h"
#include "store/source.h"
#include "understudy/options.h"

namespace understudy::store {

/// Figures of a file that was written.
struct Written {
  std::uint64_t nbytes = 0;
  std::string digest;  ///< of the header
  std::string writer;  ///< "io_uring", "threads" or "buffered", and why not a better one
};

/// Writes under way at once. A disk of today is near its limit at this depth;
/// with fewer it waits for us.
inline constexpr int kDeviceDepth = 8;

/// A block, which is 4 MiB, then goes every four seconds: slower would be stop
/// and go.
inline constexpr std::uint64_t kMinRate = 1 << 20;

struct WriterOptions {
  /// Threads that write; 0: chosen by the writer. They wait for the disk, so
  /// cores do not count.
  int threads = 0;
  /// The threads give way to the trainer's; else somebody waits for them.
  bool low_priority = false;
  WriterChoice choice = WriterChoice::automatic;
  std::uint64_t max_rate = 0;  ///< bytes a second, at least kMinRate; 0: no limit
};

/// How a file comes to be.
struct NewFile {
  unsigned mode = 0666;  ///< less the process's mask
  /// Called when the file is there and empty.
  std::function<void(const os::File&)> created = {};
};

/// Writes files. Holds its threads and its scratch memory between calls. One
/// call at a time.
class Writer {
 public:
  /// Throws Error(invalid) for a rate below kMinRate.
  explicit Writer(const WriterOptions& options = {});
  ~Writer();

  /// Creates `name` in `directory` (it must not exist), reserves its space,
  /// writes it, cuts it to its exact size and calls fsync. `done` counts bytes.
  /// On failure the file may be left behind: the caller removes it. Throws
  /// Error(unsupported) when the writer that was asked for cannot write there.
  Written write(const os::Directory& directory, const std::string& name, ShardSource& source,
                std::atomic<std::uint64_t>* done = nullptr, const NewFile& how = {});

 private:
  friend class Unlimited;
  friend std::string name_writer(const os::Directory&, const WriterOptions&);
  struct State;
  std::unique_ptr<State> state_;
};

/// While one lives, its writer knows no rate; what it is writing goes on at once.
class Unlimited {
 public:
  explicit Unlimited(Writer& writer);
  ~Unlimited();
  Unlimited(const Unlimited&) = delete;
  Unlimited& operator=(const Unlimited&) = delete;

 private:
  Pace& pace_;
};

/// What a Writer of these options takes in `directory`, as Written::writer has
/// it. Makes a file without content there and removes it.
std::string name_writer(const os::Directory& directory, const WriterOptions& options = {});

}  // namespace understudy::store
