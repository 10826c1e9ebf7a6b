// Looking at steps through an open folder, which stays the same one when the
// process changes its working directory.
#pragma once

#include <string>
#include <vector>

#include "os/file.h"
#include "store/reader.h"

namespace understudy::store {

StepFolder look_at_step(const os::Directory& directory, const std::string& name);
std::vector<StepFolder> look_at_steps(const os::Directory& directory);

/// The manifest's text. Throws Error(not_found, corrupt, io).
std::string read_manifest_text(const os::Directory& folder);

}  // namespace understudy::store
