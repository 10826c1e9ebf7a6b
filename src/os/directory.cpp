#include <fcntl.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/error.h"
#include "os/calls.h"
#include "os/failure.h"
#include "os/file.h"
#include "os/size_signal.h"
#include "os/stat.h"

// From linux/fs.h, which older C libraries do not pass on.
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace understudy::os {

namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

bool is_refusal_of_direct_io(int error) noexcept {
  return error == EINVAL || error == EOPNOTSUPP;
}

/// What kernels and file systems say that do not know a flag of renameat2.
bool is_refusal_of_flags(int error) noexcept {
  return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP;
}

// The page lies in memory as direct I/O wants it.
struct alignas(4096) ZeroPage {
  std::array<std::byte, 4096> bytes{};
};
constexpr ZeroPage kZeroPage{};

/// Some file systems open for direct I/O and refuse the first write.
bool takes_direct_writes(int fd, const std::string& path) {
  const NoSizeSignal no_signal;
  const auto count = uninterrupted(
      [&] { return calls().pwrite(fd, kZeroPage.bytes.data(), kZeroPage.bytes.size(), 0); });
  if (count >= 0) return true;  // a short count is no refusal; the header comes over it
  if (is_refusal_of_direct_io(errno)) return false;
  fail_call("write", path, errno);
}

struct CloseDirectory {
  void operator()(DIR* dir) const noexcept { calls().closedir(dir); }
};

bool is_dots(const char* name) noexcept {
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

}  // namespace

Directory Directory::open(const std::filesystem::path& path) {
  const int fd = uninterrupted([&] { return calls().open(path.c_str(), kOpenDirectory, 0); });
  if (fd < 0) fail_call("open folder", path.native(), errno);
  return Directory(File(fd, path.native()));
}

Directory Directory::open_or_make(const std::filesystem::path& path) {
  try {
    return open(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found || path.empty()) throw;
  }
  auto parent_path = path.parent_path();
  if (path.filename().empty()) return open_or_make(parent_path);  // "a/b/"
  if (parent_path.empty()) parent_path = ".";
  const Directory parent = open_or_make(parent_path);
  // Another process may make it at the same moment.
  if (uninterrupted([&] { return calls().mkdirat(parent.fd(), path.filename().c_str(), 0777); }) !=
          0 &&
      errno != EEXIST) {
    fail_call("make folder", path.native(), errno);
  }
  parent.sync();
  return open(path);
}

Directory Directory::reopen() const {
  const int fd = uninterrupted([&] { return calls().openat(this->fd(), ".", kOpenDirectory, 0); });
  if (fd < 0) fail_call("open folder", name(), errno);
  return Directory(File(fd, name()));
}

std::optional<File> Directory::create(const std::string& name, bool direct, unsigned mode) const {
  std::string path = path_of(name);
  const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | (direct ? O_DIRECT : 0);
  const int fd = uninterrupted(
      [&] { return calls().openat(this->fd(), name.c_str(), flags, static_cast<mode_t>(mode)); });
  if (fd < 0 && !(direct && is_refusal_of_direct_io(errno))) fail_call("create", path, errno);

  File file(fd, path);
  file.is_direct_ = direct;
  if (!direct || (fd >= 0 && takes_direct_writes(fd, path))) return file;
  // The kernel makes the file before it finds that it cannot open it so.
  if (exists(name)) remove_file(name);
  return {};
}

File Directory::open_file(const std::string& name) const {
  std::string path = path_of(name);
  const int fd = uninterrupted([&] {
    return calls().openat(this->fd(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
  });
  if (fd < 0) fail_call("open", path, errno);
  File file(fd, std::move(path));
  if (file.info().type != FileInfo::Type::file) {
    fail(ErrorCode::invalid, "{} is not a plain file", file.name());
  }
  return file;
}

Directory Directory::make_directory(const std::string& name, unsigned mode) const {
  if (uninterrupted(
          [&] { return calls().mkdirat(fd(), name.c_str(), static_cast<mode_t>(mode)); }) != 0) {
    fail_call("make folder", path_of(name), errno);
  }
  return open_directory(name);
}

Directory Directory::open_directory(const std::string& name, bool follow_links) const {
  const int flags = kOpenDirectory | (follow_links ? 0 : O_NOFOLLOW);
  std::string path = path_of(name);
  const int fd = uninterrupted([&] { return calls().openat(this->fd(), name.c_str(), flags, 0); });
  if (fd < 0) fail_call("open folder", path, errno);
  return Directory(File(fd, std::move(path)));
}

std::vector<std::string> Directory::list() const {
  // A second descriptor: reading moves it, and the stream closes it.
  const int fd = uninterrupted([&] { return calls().openat(this->fd(), ".", kOpenDirectory, 0); });
  if (fd < 0) fail_call("open folder", name(), errno);
  const std::unique_ptr<DIR, CloseDirectory> dir(calls().fdopendir(fd));
  if (!dir) {
    const int error = errno;
    calls().close(fd);
    fail_call("read folder", name(), error);
  }
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = calls().readdir(dir.get());
    if (!entry) break;
    if (!is_dots(entry->d_name)) names.emplace_back(entry->d_name);
  }
  if (errno != 0) fail_call("read folder", name(), errno);
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<FileInfo> Directory::find(const std::string& name) const {
  struct stat found;
  if (uninterrupted(
          [&] { return calls().fstatat(fd(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW); }) == 0) {
    return to_file_info(found);
  }
  if (errno == ENOENT) return {};
  fail_call("look at", path_of(name), errno);
}

void Directory::rename(const std::string& from, const std::string& to) const {
  if (!try_rename(from, to)) fail_call(fmt::format("rename {} to", path_of(from)), to, EXDEV);
}

bool Directory::try_rename(const std::string& from, const std::string& to) const {
  if (uninterrupted([&] { return calls().renameat(fd(), from.c_str(), fd(), to.c_str()); }) == 0) {
    return true;
  }
  if (errno == EXDEV) return false;
  fail_call(fmt::format("rename {} to", path_of(from)), to, errno);
}

bool Directory::rename_to_new(const std::string& from, const std::string& to) const {
  if (uninterrupted([&] {
        return calls().renameat2(fd(), from.c_str(), fd(), to.c_str(), RENAME_NOREPLACE);
      }) == 0) {
    return true;
  }
  if (errno == EEXIST) return false;
  if (!is_refusal_of_flags(errno)) {
    fail_call(fmt::format("rename {} to", path_of(from)), to, errno);
  }
  // A link is never made over a name. Folders and some file systems have none.
  if (uninterrupted([&] { return calls().linkat(fd(), from.c_str(), fd(), to.c_str(), 0); }) == 0) {
    remove_file(from);
    return true;
  }
  // What can still be lost is an empty folder made between these two calls: no
  // rename replaces one that has something in it.
  if (errno == EEXIST || exists(to)) return false;
  rename(from, to);
  return true;
}

bool Directory::exchange(const std::string& a, const std::string& b) const {
  if (uninterrupted([&] {
        return calls().renameat2(fd(), a.c_str(), fd(), b.c_str(), RENAME_EXCHANGE);
      }) == 0) {
    return true;
  }
  if (is_refusal_of_flags(errno) || errno == EXDEV) return false;
  fail_call(fmt::format("exchange {} with", path_of(a)), b, errno);
}

void Directory::link(const std::string& name, const Directory& to,
                     const std::string& new_name) const {
  if (uninterrupted(
          [&] { return calls().linkat(fd(), name.c_str(), to.fd(), new_name.c_str(), 0); }) != 0) {
    fail_call(fmt::format("link {} to", path_of(name)), to.path_of(new_name), errno);
  }
}

void Directory::remove_file(const std::string& name) const {
  if (uninterrupted([&] { return calls().unlinkat(fd(), name.c_str(), 0); }) != 0) {
    fail_call("remove", path_of(name), errno);
  }
}

void Directory::remove_tree(const std::string& name) const {
  const auto found = find(name);
  if (!found || found->type != FileInfo::Type::directory) return remove_file(name);
  // One descriptor however deep it goes: a folder's parent is found again by "..".
  struct Level {
    std::string name;
    FileInfo info;
    std::vector<std::string> children;  // still to be removed
  };
  Directory here = open_directory(name);
  std::vector<Level> levels{{name, here.info(), here.list()}};
  for (;;) {
    Level& level = levels.back();
    if (!level.children.empty()) {
      const std::string child = std::move(level.children.back());
      level.children.pop_back();
      const auto what = here.find(child);
      if (!what || what->type != FileInfo::Type::directory) {
        here.remove_file(child);
        continue;
      }
      here = here.open_directory(child);
      levels.push_back({child, here.info(), here.list()});
    } else if (levels.size() > 1) {
      Directory parent = here.open_directory("..");
      parent.file_.name_ = here.name().substr(0, here.name().size() - level.name.size() - 1);
      if (!parent.info().is_same_file(levels[levels.size() - 2].info)) {
        fail(ErrorCode::io, "{} was moved while it was being removed", here.name());
      }
      parent.remove_folder(level.name);
      here = std::move(parent);
      levels.pop_back();
    } else {
      return remove_folder(name);
    }
  }
}

void Directory::remove_folder(const std::string& name) const {
  if (uninterrupted([&] { return calls().unlinkat(fd(), name.c_str(), AT_REMOVEDIR); }) != 0) {
    fail_call("remove folder", path_of(name), errno);
  }
}

bool Directory::sync() const {
  if (uninterrupted([&] { return calls().fsync(fd()); }) == 0) return true;
  if (errno == EINVAL) return false;
  fail_call("sync folder", name(), errno);
}

}  // namespace understudy::os
