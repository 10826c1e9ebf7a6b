// Folders in memory (tmpfs), and what tells this machine and this user from others.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "os/file.h"

namespace understudy::os {

/// Whether what lies there lies in memory: a tmpfs, which ends with the machine.
bool is_in_memory(const Directory& directory);

/// Bytes that can still be written there.
std::uint64_t room_in(const Directory& directory);

/// Whose files this process makes.
uid_t this_user() noexcept;

/// Another one after each start of the machine; "" where the system does not say.
std::string boot_id();

/// Device, number and, where the file system knows it, the time at which the folder was made: the
/// same by whatever path it is reached and wherever it is moved, and another one for a folder that
/// takes its place or its number.
std::string identity_of(const Directory& directory);

}  // namespace understudy::os
