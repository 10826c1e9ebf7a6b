// Arguments from Python, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/common.h"
#include "understudy/checkpointer.h"

namespace understudy::python {

Memory memory_of(const std::string& name);
Capture capture_of(const std::string& name);
WhenBusy when_busy_of(const std::string& name);
WriterChoice writer_of(const std::string& name);
/// Bytes a second; None: no limit.
std::optional<std::uint64_t> rate_of(nb::handle rate);
OnDamage on_damage_of(const std::string& name);
Source source_of(const std::string& name);
WhenNoRoom when_no_room_of(const std::string& name);
/// A bool, or the path of a folder in memory.
Survive survive_of(nb::handle survive);

/// A step: an int that is no bool, from 0 up.
std::int64_t step_of(nb::handle step);
std::optional<std::int64_t> optional_step_of(nb::handle step);

/// None, one name or several.
std::vector<std::string> names_of(nb::handle names);

/// A str, bytes or os.PathLike.
std::filesystem::path path_of(nb::handle path);

/// Names of parts that are each rank's own: one str or several.
std::vector<std::string> per_rank_of(nb::handle names);
/// Those and the keys of a state under which there is an RngState.
std::vector<std::string> per_rank_in(nb::handle state, std::vector<std::string> names);

/// Seconds, or None for no limit.
Timeout timeout_of(std::optional<double> seconds);

/// None, or text to text.
FileMetadata file_metadata_of(nb::handle metadata);

/// None, an int, or a Keep.
std::optional<Keep> keep_of(nb::handle keep);

/// None, or a dict of what JSON can say, with numbers of NumPy's and torch's.
Value metadata_of(nb::handle metadata);

}  // namespace understudy::python
