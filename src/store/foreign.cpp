#include "store/foreign.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "base/error.h"
#include "store/look.h"
#include "store/manifest.h"

namespace understudy::store {

namespace {

using namespace std::string_view_literals;

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

std::string_view without_blanks(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  return first == text.npos ? ""sv : text.substr(first);
}

/// The name of the first file in a zip archive: how its makers are told apart.
std::string_view first_name_in_zip(std::string_view text) {
  constexpr std::size_t kNameLength = 26, kName = 30;  // of the local header
  if (text.size() < kName) return {};
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  return text.substr(kName, byte(kNameLength) + 256u * byte(kNameLength + 1));
}

std::string name_zip(std::string_view text) {
  const auto first = first_name_in_zip(text);
  if (first.ends_with("/data.pkl")) {
    return "an archive of torch.save; torch.load reads it, and save_file writes its state anew";
  }
  if (first.ends_with(".npy")) return "an archive of NumPy arrays (npz); numpy.load reads it";
  return "a zip archive";
}

std::string name_json(std::string_view file) {
  if (file.ends_with(".index.json")) {
    return "the index of a model in several files; give the folder that it lies in";
  }
  if (file.ends_with(kManifestName)) {
    return "the manifest of a step; give the step's folder";
  }
  return "a JSON text";
}

struct Mark {
  std::size_t at;
  std::string_view bytes;
  std::string_view what;
};

constexpr Mark kMarks[] = {
    {0, "version https://git-lfs.github.com/"sv,
     "a git-lfs pointer, not the file that it stands for; git lfs pull fetches that"sv},
    {0, "GGUF"sv, "a GGUF file"sv},
    {0, "\x93NUMPY"sv, "a NumPy array (npy); numpy.load reads it"sv},
    {0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file"sv},
    // The number that files of torch.save began with before they were archives.
    {0, "\x80\x02\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv,
     "a file of an old torch.save; torch.load reads it, and save_file writes its state anew"sv},
    {0, "\x1f\x8b\x08"sv, "compressed by gzip; unpack it first"sv},
    {0, "\x28\xb5\x2f\xfd"sv, "compressed by zstd; unpack it first"sv},
    {0, "BZh"sv, "compressed by bzip2; unpack it first"sv},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "compressed by xz; unpack it first"sv},
    {257, "ustar"sv, "a tar archive; unpack it first"sv},
};

/// True for the opcode that opens a pickle of protocol 2 to 5, and one behind it.
bool is_pickle(std::string_view text) {
  return text.size() >= 3 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5 && text[2] != '\0';
}

/// True for a header's length and its first brace: whatever is wrong is wrong behind.
bool begins_as_safetensors(std::string_view text) {
  constexpr std::size_t kPrefix = 8;
  return text.size() > kPrefix && text[kPrefix] == '{' &&
         text.substr(4, 4) == "\0\0\0\0"sv;  // no header has 4 GiB
}

/// "checkpoint-500", "step_100", "epoch=3": names that other tools give.
bool is_name_of_others(std::string_view name) {
  const std::string text = lower(name);
  constexpr std::string_view kWords[] = {"checkpoint", "ckpt", "global_step", "step",
                                         "epoch",      "iter", "iteration"};
  for (const auto word : kWords) {
    if (!text.starts_with(word)) continue;
    auto rest = std::string_view(text).substr(word.size());
    if (!rest.empty() && (rest[0] == '-' || rest[0] == '_' || rest[0] == '=')) {
      rest.remove_prefix(1);
    }
    const bool is_number =
        !rest.empty() && std::ranges::all_of(rest, [](unsigned char c) { return std::isdigit(c); });
    if (is_number) return true;
  }
  return false;
}

bool is_folder(const os::Directory& folder, const std::string& name) {
  const auto found = folder.find(name);
  return found && found->type == os::FileInfo::Type::directory;
}

/// What one name in a folder stands for; empty for what is no checkpoint.
std::string_view name_item(const os::Directory& folder, const std::string& name) {
  if (name == ".metadata") return "a checkpoint of torch.distributed.checkpoint"sv;
  if (name.ends_with(".safetensors.index.json")) return "a Hugging Face model"sv;
  if (name.ends_with(".safetensors")) return "a safetensors file, which load_file reads"sv;
  if (name.ends_with(".ckpt")) return "a checkpoint of Lightning"sv;
  if (name.ends_with(".pt") || name.ends_with(".pth")) return "a file of torch.save"sv;
  if (name.starts_with("pytorch_model") && name.ends_with(".bin")) return "a Hugging Face model"sv;
  if (is_name_of_others(name) && is_folder(folder, name)) {
    return "a folder that is named like a step, but not as ours are (step-1)"sv;
  }
  return {};
}

}  // namespace

std::string name_content(std::span<const std::byte> beginning, std::string_view file) {
  const std::string_view text(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  if (begins_as_safetensors(text)) return {};
  for (const Mark& mark : kMarks) {
    if (text.size() > mark.at && text.substr(mark.at).starts_with(mark.bytes)) {
      return std::string(mark.what);
    }
  }
  if (text.starts_with("PK\x03\x04")) return name_zip(text);
  if (is_pickle(text)) return "a pickle";
  const auto first = without_blanks(text);
  const auto lowered = lower(first.substr(0, 14));
  if (lowered.starts_with("<!doctype html") || lowered.starts_with("<html")) {
    return "an HTML page, as a download that failed leaves one";
  }
  if (first.starts_with('{')) return name_json(file);
  return {};
}

std::string name_checkpoint_in(const os::Directory& folder) {
  for (const std::string& name : folder.list()) {
    const auto what = name_item(folder, name);
    if (!what.empty()) return fmt::format("{} ({})", what, name);
  }
  return {};
}

bool is_step_itself(const os::Directory& folder) {
  if (!folder.exists(std::string(kManifestName))) return false;
  try {
    read_manifest(read_manifest_text(folder), folder.path_of(std::string(kManifestName)));
    return true;
  } catch (const Error& error) {
    return error.code() == ErrorCode::unsupported;  // ours, of another version
  }
}

}  // namespace understudy::store
