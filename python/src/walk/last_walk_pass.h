// What one pass over a state gathers.
#pragma once

#include "walk/last_walk.h"

namespace understudy::python {

struct LastWalk::Pass {
  std::shared_ptr<Refs> owners = std::make_shared<Refs>();
  std::vector<std::pair<std::size_t, Value>> changed{};
  std::vector<std::pair<std::size_t, nb::object>> kept{};  // into scalars_
  struct Place {
    std::size_t step, tensor;
    const void* storage;
    const std::byte* data;
  };
  std::vector<Place> moved{};
  // Storages of torch tensors, as they were met. The first `doubtful` were met before an object
  // was asked for its state, which may have done anything to them.
  struct Met {
    const void* storage;
    const std::byte* data;
    std::uint64_t nbytes;
  };
  std::vector<Met> met{};
  std::size_t doubtful = 0;
  Answers* answers = nullptr;
  std::size_t step = 0, key = 0, scalar = 0, tensor = 0;
};

}  // namespace understudy::python
