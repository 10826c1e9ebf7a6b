// The plan: which bytes of the source go where in the data section.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "format/layout.h"
#include "transfer/copy_bytes.h"
#include "value/extents.h"

namespace understudy::transfer {

/// Bytes [begin, begin + nbytes) of the data section.
struct DataRange {
  std::uint64_t begin = 0;
  std::uint64_t nbytes = 0;
};

/// Fills any range of the data section from the source. Filling is thread-safe;
/// ranges that do not overlap may be filled side by side.
class Plan {
 public:
  /// Takes the copies out of `extents`.
  Plan(const format::Layout& layout, value::Extents extents);

  /// The bytes of the blobs, in walk order; sizes as when the plan was made.
  void set_blobs(std::vector<std::string> blobs);

  /// The bytes of an extent lie elsewhere now, in the same form.
  void move_extent(std::uint32_t extent, std::ptrdiff_t by_nbytes);

  std::uint64_t data_nbytes() const noexcept { return data_nbytes_; }

  /// Writes bytes [begin, begin + out.size()) of the data section into `out`.
  /// With `zero_gaps` the bytes that nothing covers are set to zero; else they
  /// are left alone (they must be zero already).
  void fill(std::uint64_t begin, std::span<std::byte> out, bool zero_gaps) const;

  /// Fills the whole data section at `out`, on all threads of `workers`.
  void fill_all(std::byte* out, bool zero_gaps, WorkerPool& workers) const;
  /// The same for parts of it, in ascending order. `out` is where the data
  /// section begins.
  void fill_ranges(const std::vector<DataRange>& ranges, std::byte* out, bool zero_gaps,
                   WorkerPool& workers) const;

  /// A tensor's extent that is one run of the source.
  struct Run {
    const std::byte* source = nullptr;
    DataRange target;
  };
  /// All of them, in the order of the data section. Blobs are none.
  std::vector<Run> tensor_runs() const;

 private:
  // One extent or blob. Most are one run: then `copies` is empty.
  struct Segment {
    std::uint64_t begin = 0;
    std::uint64_t nbytes = 0;
    const std::byte* source = nullptr;
    bool has_gaps = false;
    std::vector<value::Copy> copies;
    bool is_blob = false;
  };

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  void fill(std::uint64_t begin, std::span<std::byte> out, bool zero_gaps, BulkCopy& bulk) const;

  std::vector<Segment> segments_;             // ascending, back to back
  std::vector<std::size_t> extent_segments_;  // kNone for those of no bytes
  std::vector<std::size_t> blob_segments_;
  std::vector<std::string> blobs_;
  std::uint64_t data_nbytes_ = 0;
};

}  // namespace understudy::transfer
