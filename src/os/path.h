// Paths: which are refused, where they lie, what has them now.
#pragma once

#include <filesystem>
#include <optional>

#include "os/file.h"

namespace understudy::os {

/// Throws Error(invalid) for what would make or read another file than was meant:
/// nothing at all, a URL ("s3://bucket/a", and "s3:/bucket/a", which pathlib makes of
/// it), a '~' that no shell has expanded, a NUL. "./~" and "./s3:/a" are paths.
void require_path(const std::filesystem::path& path);

/// The path from the root, as it is now; "a/" becomes "/x/a". Links stay as they are.
/// Error(io) where the working directory is gone.
std::filesystem::path absolute(const std::filesystem::path& path);

/// What has the path, its links followed; nothing when nothing has it.
std::optional<FileInfo> find_file(const std::filesystem::path& path);

/// The path with its last part's links followed to the end, also where nothing
/// lies at the end. Error(io) for a ring of links.
std::filesystem::path follow_links(std::filesystem::path path);

}  // namespace understudy::os
