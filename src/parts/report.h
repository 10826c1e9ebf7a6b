// What the writer of a part reports to the coordinator.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ranks/outline.h"

namespace understudy::parts {

struct Report {
  int rank = 0;
  int count = 1;
  int file = 0;
  bool is_whole_state = false;  ///< the file is the nested state, and needs no index
  std::string name{};
  std::uint64_t nbytes = 0;
  std::string digest{};
  std::string skeleton{};    ///< a dict of the leaves' names
  ranks::Outline outline{};  ///< of what has bytes, by its key in the file
};

std::string encode(const Report& report);
/// Throws Error(corrupt) for what encode does not write.
Report decode_report(std::string_view bytes);

/// The name of a part: a shard's, with a number for all but a process's first.
std::string part_name(int rank, int count, int file);

}  // namespace understudy::parts
