#include "os/path.h"

#include <fcntl.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <climits>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "os/calls.h"
#include "os/failure.h"
#include "os/stat.h"

namespace understudy::os {

namespace {

/// A scheme of two letters or more, then ":/".
bool is_url(std::string_view path) {
  const auto colon = path.find(':');
  if (colon == path.npos || colon < 2 || !path.substr(colon).starts_with(":/")) return false;
  const auto is_letter = [](unsigned char c) { return std::isalpha(c) != 0; };
  const auto is_of_scheme = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '-' || c == '.';
  };
  return is_letter(path[0]) && std::ranges::all_of(path.substr(0, colon), is_of_scheme);
}

}  // namespace

void require_path(const std::filesystem::path& path) {
  const std::string_view text = path.native();
  if (text.empty()) fail(ErrorCode::invalid, "\"\" is not the name of a file or a folder");
  if (text.find('\0') != text.npos) {
    fail(ErrorCode::invalid, "the path {} has a NUL in it", text.substr(0, text.find('\0')));
  }
  if (is_url(text)) {
    fail(ErrorCode::invalid,
         "{} is a URL, and only paths of mounted file systems are read and written", text);
  }
  if (text == "~" || text.starts_with("~/")) {
    fail(ErrorCode::invalid,
         "{} begins with '~', which is the home folder to a shell only; expand it "
         "(os.path.expanduser), or write ./{} for a folder of that name",
         text, text);
  }
}

std::filesystem::path absolute(const std::filesystem::path& path) {
  std::error_code error;
  const auto whole = std::filesystem::absolute(path, error);
  if (error) fail_call("find the working directory for", path.native(), error.value());
  return whole.has_filename() || whole == whole.root_path() ? whole : whole.parent_path();
}

std::optional<FileInfo> find_file(const std::filesystem::path& path) {
  struct stat found;
  if (uninterrupted([&] { return calls().fstatat(AT_FDCWD, path.c_str(), &found, 0); }) == 0) {
    return to_file_info(found);
  }
  if (errno == ENOENT) return {};
  fail_call("look at", path.native(), errno);
}

std::filesystem::path follow_links(std::filesystem::path path) {
  // The kernel refuses to follow some links, as those of others in /tmp; what
  // it refuses is not followed here either. Where they end may be missing.
  const int fd = uninterrupted([&] { return calls().open(path.c_str(), O_PATH | O_CLOEXEC, 0); });
  if (fd >= 0) {
    calls().close(fd);
  } else if (errno != ENOENT) {
    fail_call("follow the links of", path.native(), errno);
  }
  constexpr int kMaxLinks = 40;  // the kernel's own limit
  for (int i = 0; i <= kMaxLinks; ++i) {
    std::array<char, PATH_MAX> target;
    const auto count = uninterrupted(
        [&] { return calls().readlinkat(AT_FDCWD, path.c_str(), target.data(), target.size()); });
    // EINVAL: not a link.
    if (count < 0 && (errno == EINVAL || errno == ENOENT)) return path;
    if (count < 0) fail_call("look at", path.native(), errno);
    // An absolute target replaces the whole path.
    path = path.parent_path() / std::string(target.data(), static_cast<std::size_t>(count));
  }
  fail_call("follow the links of", path.native(), ELOOP);
}

}  // namespace understudy::os
