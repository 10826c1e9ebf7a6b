// Looking at steps through an open folder, which stays the same one when the
// process changes its working directory, and beside a writer that replaces and
// retires steps: what has lost its name since is looked for again, never called
// damaged or missing.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "os/file.h"
#include "store/reader.h"

namespace understudy::store {

/// How often a reader begins again because a step went while it looked. Each such
/// turn a writer has committed a step meanwhile; so many in a row are not chance.
inline constexpr int kReadTurns = 100;

StepFolder look_at_step(const os::Directory& directory, const std::string& name);
std::vector<StepFolder> look_at_steps(const os::Directory& directory);

/// The newest step whose number is wanted, held open, complete or not; nothing when
/// there is none.
std::optional<StepFolder> find_newest_step(const os::Directory& directory,
                                           const std::function<bool(std::int64_t)>& is_wanted);

/// Opens the step that has the path; should a writer replace it meanwhile, what has
/// the path then. Throws as look_at_step and open_step do.
ShardReader open_step_at(const std::filesystem::path& step_path);

/// True while `name` leads to the very folder that was looked at.
bool is_still_there(const os::Directory& directory, const std::string& name,
                    const os::Directory& folder);

/// Error(busy): all turns were in vain.
[[noreturn]] void fail_restless(const std::filesystem::path& path);

/// The manifest's text. Throws Error(not_found, corrupt, io).
std::string read_manifest_text(const os::Directory& folder);

}  // namespace understudy::store
