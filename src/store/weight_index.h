// The index of a model in several safetensors files, as Hugging Face's tools write it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "os/file.h"

namespace understudy::store {

/// Its `weight_map`: the tensors in its order, each with the name of its file, which
/// lies in the same folder. Throws Error(corrupt) naming the index.
std::vector<std::pair<std::string, std::string>> read_weight_index(const os::File& file);

}  // namespace understudy::store
