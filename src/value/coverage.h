// Which bytes a tensor touches: equal runs over a few dimensions.
#pragma once

#include <cstdint>
#include <vector>

#include "understudy/tensor.h"

namespace understudy::value {

using Address = std::uint64_t;

/// The bytes of a strided view in canonical form: expanded and single
/// dimensions dropped, negative strides turned round, dimensions sorted by
/// descending stride and merged. Views that touch the same bytes in regular
/// ways have equal coverages, whatever their order of dimensions.
struct Coverage {
  struct Dim {
    std::uint64_t count;
    std::uint64_t stride;  ///< in bytes
    bool operator==(const Dim&) const = default;
  };

  Address begin = 0;
  std::uint64_t run_nbytes = 0;
  std::vector<Dim> dims;   ///< outermost first
  bool is_regular = true;  ///< runs are disjoint and ascend in C order

  bool operator==(const Coverage&) const = default;

  bool is_dense() const noexcept { return dims.empty(); }
  /// First address after the last run.
  Address end() const noexcept;
  std::uint64_t run_count() const noexcept;
  /// Bytes touched, when regular.
  std::uint64_t used_nbytes() const noexcept { return run_count() * run_nbytes; }
};

/// `tensor` must have elements.
Coverage cover(const Tensor& tensor);

/// A half-open run of addresses.
struct Interval {
  Address begin;
  Address end;
};

/// Appends every run of `coverage`.
void append_runs(const Coverage& coverage, std::vector<Interval>& runs);

/// Sorts, and joins what overlaps or touches.
void merge(std::vector<Interval>& runs);

}  // namespace understudy::value
