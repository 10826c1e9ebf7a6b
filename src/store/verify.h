// Reading every byte to see whether it is what was written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "store/reader.h"

namespace understudy::store {

struct FoundDamage {
  std::filesystem::path file;
  std::uint64_t offset = 0;
  std::string what;
};

/// Called with bytes done and in all, one call at a time.
using OnProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct FileCheck {
  std::uint64_t nbytes = 0;
  bool has_checksums = true;
  std::vector<FoundDamage> damage;  ///< all damaged blocks, not the first only
};

/// Verifies one safetensors file. Not being able to open it is an Error.
FileCheck verify_file(const std::filesystem::path& path, const OnProgress& progress = {});

/// Verifies a step's folder: manifest, sizes, extra files, every block. What is
/// found of a folder that has lost its name meanwhile need not be damage.
FileCheck verify_step(const StepFolder& step, const OnProgress& progress = {});
/// The same for the step that has the path.
FileCheck verify_step(const std::filesystem::path& step_path, const OnProgress& progress = {});

}  // namespace understudy::store
