// The names that a save leaves in a folder of steps, for as long as it lasts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace understudy::store {

inline constexpr std::string_view kLockName = ".understudy.lock";
inline constexpr std::string_view kTemporary = ".tmp-";  ///< being written, or exchanged away
inline constexpr std::string_view kSetAside = ".old-";   ///< renamed away by an overwrite
inline constexpr std::string_view kSuccessor = ".new-";  ///< whole; takes its step's place
inline constexpr std::string_view kDoomed = ".del-";     ///< renamed away by retention

/// What ranks look for when they meet; a folder, for as long as that lasts.
inline constexpr std::string_view kMeeting = ".understudy.meeting";

/// `base`, `mark` and eight random hex digits: "step-7.tmp-0123abcd".
std::string marked_name(std::string_view base, std::string_view mark);

/// True when `name` is what marked_name makes of this base and mark.
bool is_marked_name(std::string_view name, std::string_view base, std::string_view mark);

/// The step of a marked name of a step; nothing for any other name.
std::optional<std::int64_t> step_of_marked_name(std::string_view name, std::string_view mark);

}  // namespace understudy::store
