// The state of a folder: a step's, or a model of several files as Hugging Face's
// tools lay it out.
#pragma once

#include "base/worker_pool.h"
#include "os/file.h"
#include "understudy/files.h"

namespace understudy::restore {

/// As load_file, for a folder: a step of ours; a folder with one index
/// (*.safetensors.index.json), whose tensors come whole from all its files, in the
/// index's order; a folder with one safetensors file. Throws Error(invalid) for a
/// folder of steps and for any other, saying what lies there.
Value load_folder(const std::filesystem::path& path, const LoadFileOptions& options,
                  WorkerPool& readers);

}  // namespace understudy::restore
