// A region: whole pages of host memory, private or shared, pinned if wanted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/worker_pool.h"
#include "device/cuda_context.h"
#include "os/file.h"
#include "vm/mapping.h"
#include "vm/shared_mapping.h"

namespace understudy::memory {

/// Shared: by its descriptor; inherited: with forked children as well.
enum class Sharing { is_private, is_shared, is_inherited };

class Region;

/// Called with bytes [begin, begin + nbytes) whose pages have just been made.
using OnPages = std::function<void(std::uint64_t begin, std::uint64_t nbytes)>;

/// Region::prepare of all, shared out together.
void prepare_all(const std::vector<Region*>& regions, WorkerPool& workers,
                 const OnPages& on_pages = {});

/// Pages are made by those who call `touch`; until then there are only addresses.
class Region {
 public:
  /// With a context, `prepare` pins it there. Throws Error(no_space).
  Region(Sharing sharing, std::uint64_t nbytes,
         std::shared_ptr<device::CudaContext> context = nullptr);
  /// Over a file in memory that has these bytes and the space for them; not for forked children.
  Region(os::File file, std::uint64_t nbytes, std::shared_ptr<device::CudaContext> context);

  std::byte* data() const noexcept;
  std::uint64_t nbytes() const noexcept;
  /// Of shared memory, else -1.
  int fd() const noexcept;

  /// Makes all pages, on all threads of `workers`, and pins them. Others may do
  /// the same, and write, at the same time; again it costs nothing. Throws
  /// Error(no_space), Error(io). `on_pages` is called by the thread that made
  /// them, while they are in its cache, once for every part; never when nothing
  /// was left to do.
  void prepare(WorkerPool& workers, const OnPages& on_pages = {}) {
    prepare_all({this}, workers, on_pages);
  }
  /// The same on this thread, a piece at a time: `cursor` counts the bytes from
  /// 0 on. False when nothing was left to do.
  bool prepare_piece(std::uint64_t& cursor);
  bool is_prepared() const noexcept { return is_prepared_.load(std::memory_order_acquire); }

  /// Makes just the pages of [begin, begin + nbytes), for who writes there now, before the rest
  /// is prepared. Throws as `prepare`.
  void touch(std::uint64_t begin, std::uint64_t nbytes);
  /// Makes the pages there and around, unless somebody else has or is about to; waits for
  /// nobody. For memory that is not pinned. Throws as `prepare`.
  void touch_ahead(std::uint64_t begin, std::uint64_t nbytes);

  /// Null when it is not to be pinned.
  const device::CudaContext* context() const noexcept { return context_.get(); }
  /// Of shared memory: which pages it has, and why not better ones.
  std::string describe_pages() const;

 private:
  friend void prepare_all(const std::vector<Region*>& regions, WorkerPool& workers,
                          const OnPages& on_pages);
  using Mapping = std::variant<vm::Mapping, vm::SharedMapping>;

  std::uint64_t pieces() const noexcept;
  std::uint64_t begin_of(std::uint64_t piece) const noexcept;
  std::uint64_t nbytes_of(std::uint64_t piece) const noexcept;
  void touch_piece(std::uint64_t piece);
  void pin();

  Mapping mapping_;
  const std::shared_ptr<device::CudaContext> context_;
  std::vector<std::atomic<bool>> is_touched_;
  std::mutex pinning_;
  std::optional<device::PinnedRange> pinned_;  // ends before the mapping
  std::atomic<bool> is_prepared_{false};
};

}  // namespace understudy::memory
