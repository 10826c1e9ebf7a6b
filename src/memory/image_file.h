// Images that have a name in a folder in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "os/file.h"

namespace understudy::memory {

/// A file that an image is made of: of the size asked for, with all its space reserved.
struct ImageFile {
  os::File file;
  std::string name;                     ///< in the folder, as long as the next lives
  std::shared_ptr<const void> owner{};  ///< of the name; ends with the image
};

/// Makes one, or nothing and says why: then the image has no name. Throws Error(no_space). Empty
/// where images have none.
using MakeImageFile =
    std::function<std::optional<ImageFile>(std::uint64_t nbytes, std::string& why_not)>;

}  // namespace understudy::memory
