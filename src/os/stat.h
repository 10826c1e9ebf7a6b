// What the kernel says of a file, in our words.
#pragma once

#include <sys/stat.h>

#include "os/file.h"

namespace understudy::os {

inline FileInfo::Type type_of(mode_t mode) noexcept {
  if (S_ISREG(mode)) return FileInfo::Type::file;
  if (S_ISDIR(mode)) return FileInfo::Type::directory;
  if (S_ISLNK(mode)) return FileInfo::Type::link;
  return FileInfo::Type::other;
}

inline FileInfo to_file_info(const struct stat& found) noexcept {
  return {.type = type_of(found.st_mode),
          .nbytes = static_cast<std::uint64_t>(found.st_size),
          .mode = found.st_mode & 07777u,
          .device = found.st_dev,
          .number = found.st_ino,
          .owner = found.st_uid};
}

}  // namespace understudy::os
