// What objects said when they were asked for their states.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "core/common.h"

namespace understudy::python {

/// Keeps the answers of a pass in vain for the walk that follows it: an object may hand over
/// what it has gathered, and would have nothing to say the second time. Under the GIL.
class Answers {
 public:
  void add(nb::object object, nb::object state) {
    said_.emplace_back(std::move(object), std::move(state));
  }

  /// The next answer of this object, once; an invalid object where there is none, or where
  /// several gave the same container: the later ones may have changed what the first said.
  nb::object take(PyObject* object) {
    for (auto i = next_; i < said_.size(); ++i) {
      if (said_[i].first.ptr() != object) continue;
      next_ = i + 1;
      const auto is_same = [&](const auto& other) { return other.second.is(said_[i].second); };
      return std::ranges::count_if(said_, is_same) == 1 ? said_[i].second : nb::object();
    }
    return {};
  }

 private:
  std::vector<std::pair<nb::object, nb::object>> said_;  // in the order of the walk
  std::size_t next_ = 0;
};

}  // namespace understudy::python
