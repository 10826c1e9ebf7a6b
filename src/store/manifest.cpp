#include "store/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "format/hash.h"
#include "format/safetensors.h"
#include "store/json_members.h"

namespace understudy::store {

namespace {

using Json = nlohmann::json;

constexpr int kMajor = 1;
// Shards of several ranks, and an index: older builds refuse it by name.
constexpr std::string_view kRanksFeature = "ranks";
constexpr std::size_t kDigestDigits = 32;
// The text ends so, with the digits between: they are found without reading
// the JSON, and no other member can be taken for them.
constexpr std::string_view kBeforeDigest = "\"digest\": \"";
constexpr std::string_view kAfterDigest = "\"\n}\n";

/// The digest of a text whose digits begin at `begin`.
std::string digest_of(std::string text, std::size_t begin) {
  std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(begin), kDigestDigits, '0');
  return format::hash128_hex(std::as_bytes(std::span(text)));
}

void require_digest(std::string_view text, std::string_view file) {
  const std::size_t tail = kDigestDigits + kAfterDigest.size();
  const bool has_place = text.size() >= tail + kBeforeDigest.size() &&
                         text.ends_with(kAfterDigest) &&
                         text.substr(0, text.size() - tail).ends_with(kBeforeDigest);
  if (!has_place) fail(ErrorCode::corrupt, "{} does not end with its digest", file);
  const std::size_t begin = text.size() - tail;
  if (text.substr(begin, kDigestDigits) != digest_of(std::string(text), begin)) {
    fail(ErrorCode::corrupt, "{} is damaged: its digest does not match", file);
  }
}

/// The members by name; what is asked for must be there and of its type.
class Fields {
 public:
  Fields(std::string_view text, std::string_view file) : file_(file) {
    for (auto& [name, value] : split_json_object(text, file)) members_[name] = std::move(value);
  }
  Fields(const Json& object, std::string_view file) : file_(file) {
    if (!object.is_object()) fail(ErrorCode::corrupt, "{}: a file that is no object", file);
    for (const auto& [name, value] : object.items()) members_[name] = value.dump();
  }

  bool has(const std::string& name) const { return members_.contains(name); }
  const std::string& raw(const std::string& name) const {
    const auto found = members_.find(name);
    if (found == members_.end()) fail(ErrorCode::corrupt, "{} has no \"{}\"", file_, name);
    return found->second;
  }
  std::string text(const std::string& name) const {
    const Json value = Json::parse(raw(name));
    if (!value.is_string()) wrong(name, "a text");
    return value.get<std::string>();
  }
  std::uint64_t number(const std::string& name) const {
    const Json value = Json::parse(raw(name));
    if (!value.is_number_unsigned()) wrong(name, "a number from 0");
    return value.get<std::uint64_t>();
  }
  std::int64_t signed_number(const std::string& name) const {
    const std::uint64_t value = number(name);
    if (value > static_cast<std::uint64_t>(INT64_MAX)) wrong(name, "a number below 2^63");
    return static_cast<std::int64_t>(value);
  }
  Json list(const std::string& name) const {
    Json value = Json::parse(raw(name));
    if (!value.is_array()) wrong(name, "a list");
    return value;
  }

 private:
  [[noreturn]] void wrong(const std::string& name, std::string_view wanted) const {
    fail(ErrorCode::corrupt, "{}: \"{}\" is not {}", file_, name, wanted);
  }

  std::string_view file_;
  std::map<std::string, std::string> members_;
};

void read_version(const std::string& text, Manifest& manifest, std::string_view file) {
  const char* const end = text.data() + text.size();
  const auto major = std::from_chars(text.data(), end, manifest.major);
  const bool has_point = major.ec == std::errc{} && major.ptr != end && *major.ptr == '.';
  const auto minor = has_point ? std::from_chars(major.ptr + 1, end, manifest.minor) : major;
  if (!has_point || minor.ec != std::errc{} || minor.ptr != end) {
    fail(ErrorCode::corrupt, "{}: \"version\" is not two numbers with a point between", file);
  }
  if (manifest.major != kMajor) {
    fail(ErrorCode::unsupported, "{} is of format version {}; this build reads version {}", file,
         text, kMajor);
  }
}

void read_features(const Json& features, Manifest& manifest, std::string_view file) {
  for (const Json& feature : features) {
    if (!feature.is_string()) fail(ErrorCode::corrupt, "{}: a feature that is no text", file);
    manifest.required_features.push_back(feature.get<std::string>());
  }
  for (const std::string& feature : manifest.required_features) {
    if (feature == kRanksFeature) continue;
    fail(ErrorCode::unsupported, "{} needs the feature \"{}\", which this build does not have",
         file, feature);
  }
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name != kManifestName &&
         name != kIndexName && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

ManifestFile read_file(const Json& item, std::string_view file) {
  const Fields fields(item, file);
  return {.name = fields.text("name"),
          .nbytes = fields.number("nbytes"),
          .digest = fields.text("digest")};
}

void read_files(const Json& files, Manifest& manifest, std::string_view file) {
  std::set<std::string> names;
  for (const Json& item : files) {
    ManifestFile found = read_file(item, file);
    if (!is_plain_name(found.name) || !names.insert(found.name).second) {
      fail(ErrorCode::corrupt, "{}: {} cannot be the name of a file of this step", file,
           format::json_string(found.name));
    }
    manifest.files.push_back(std::move(found));
  }
}

void read_index(const Fields& fields, Manifest& manifest, std::string_view file) {
  const bool has_feature = std::ranges::find(manifest.required_features, kRanksFeature) !=
                           manifest.required_features.end();
  if (fields.has("index") != has_feature) {
    fail(ErrorCode::corrupt, "{}: \"index\" and the feature \"ranks\" go together", file);
  }
  if (!has_feature) return;
  manifest.index = read_file(Json::parse(fields.raw("index")), file);
  if (manifest.index->name != kIndexName) {
    fail(ErrorCode::corrupt, "{}: {} cannot be the name of the index", file,
         format::json_string(manifest.index->name));
  }
}

std::string file_text(const ManifestFile& file) {
  return fmt::format("{{\"name\": {}, \"nbytes\": {}, \"digest\": {}}}",
                     format::json_string(file.name), file.nbytes, format::json_string(file.digest));
}

}  // namespace

std::string write_manifest(Manifest manifest) {
  if (manifest.index) {
    manifest.minor = std::max(manifest.minor, 1);
    manifest.required_features.emplace_back(kRanksFeature);
  }
  std::string features;
  for (const std::string& feature : manifest.required_features) {
    features += (features.empty() ? "" : ", ") + format::json_string(feature);
  }
  std::string files;
  for (const ManifestFile& file : manifest.files) {
    files += fmt::format("{}\n    {}", files.empty() ? "" : ",", file_text(file));
  }
  const std::string index =
      manifest.index ? fmt::format("  \"index\": {},\n", file_text(*manifest.index)) : "";
  const std::string survivor = manifest.survivor_json.empty()
                                   ? ""
                                   : fmt::format("  \"survivor\": {},\n", manifest.survivor_json);
  std::string text = fmt::format(
      "{{\n"
      "  \"version\": \"{}.{}\",\n"
      "  \"required_features\": [{}],\n"
      "  \"step\": {},\n"
      "  \"world_size\": {},\n"
      "  \"time\": {},\n"
      "  \"files\": [{}\n  ],\n"
      "{}"
      "  \"metadata\": {},\n"
      "{}"
      "  {}",
      manifest.major, manifest.minor, features, manifest.step, manifest.world_size,
      format::json_string(manifest.time), files, index, manifest.metadata_json, survivor,
      kBeforeDigest);
  const std::size_t begin = text.size();
  text.append(kDigestDigits, '0');
  text += kAfterDigest;
  return text.replace(begin, kDigestDigits, digest_of(text, begin));
}

Manifest read_manifest(std::string_view text, std::string_view file) {
  require_digest(text, file);
  const Fields fields(text, file);
  Manifest manifest;
  read_version(fields.text("version"), manifest, file);
  read_features(fields.list("required_features"), manifest, file);
  manifest.step = fields.signed_number("step");
  manifest.world_size = fields.signed_number("world_size");
  manifest.time = fields.text("time");
  read_files(fields.list("files"), manifest, file);
  read_index(fields, manifest, file);
  manifest.metadata_json = fields.raw("metadata");
  if (fields.has("survivor")) manifest.survivor_json = fields.raw("survivor");
  return manifest;
}

}  // namespace understudy::store
