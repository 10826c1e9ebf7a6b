// What files and folders are that are not ours, in words: people give the wrong
// path, and a sentence about a header's length does not tell them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "os/file.h"

namespace understudy::store {

/// Bytes of a file's beginning that name_content looks at: as far as the mark of a
/// tar archive.
inline constexpr std::size_t kBeginningNbytes = 512;

/// What a file that is no safetensors file is, by how it begins and by its name, as
/// what goes behind "is": "a zip archive". Empty when neither tells.
std::string name_content(std::span<const std::byte> beginning, std::string_view file);

/// What lies in a folder that looks like a checkpoint, and is no step of ours:
/// "a checkpoint of torch.distributed (.metadata)". Empty when nothing does.
std::string name_checkpoint_in(const os::Directory& folder);

/// True for a folder that is a step itself.
bool is_step_itself(const os::Directory& folder);

}  // namespace understudy::store
