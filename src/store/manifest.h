// checkpoint.json: what makes a folder a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace understudy::store {

inline constexpr std::string_view kManifestName = "checkpoint.json";

/// Where each chunk of each tensor lies: beside the shards of several ranks.
inline constexpr std::string_view kIndexName = "index.json";

struct ManifestFile {
  std::string name;
  std::uint64_t nbytes = 0;
  std::string digest;  ///< of the header: understudy.digest; of the index: of its text
};

struct Manifest {
  int major = 1;
  int minor = 0;
  std::vector<std::string> required_features;
  std::int64_t step = 0;
  std::int64_t world_size = 1;
  std::string time;  ///< UTC, ISO 8601, seconds
  std::vector<ManifestFile> files;
  std::optional<ManifestFile> index;   ///< only with several ranks; makes it version 1.1
  std::string metadata_json = "null";  ///< the user's, compact JSON
  std::string survivor_json{};  ///< of an image in memory: whose it is; empty for steps on a disk
};

/// The manifest as JSON text that ends in a newline; its own digest filled in.
/// What several ranks need beside is added where there is an index.
std::string write_manifest(Manifest manifest);

/// Reads and checks a manifest: digest, version, features, fields, file names
/// without folders. Unknown keys are ignored. Throws Error(corrupt) or
/// Error(unsupported) naming `file`.
Manifest read_manifest(std::string_view text, std::string_view file);

/// "step-7", and back (nothing when the name is not one).
std::string step_name(std::int64_t step);
bool parse_step_name(std::string_view name, std::int64_t& step);

}  // namespace understudy::store
