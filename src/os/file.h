// Files and directories. errno stops here: failures are Error with the path.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace understudy::os {

/// What direct I/O wants of memory, offsets and lengths. No disk in use has
/// larger blocks; one that has refuses the first write, and the file is then
/// written through the cache.
inline constexpr std::uint64_t kDirectUnit = 4096;

/// What a file or a name is.
struct FileInfo {
  enum class Type { file, directory, link, other };
  Type type = Type::other;
  std::uint64_t nbytes = 0;
  unsigned mode = 0;  ///< permission bits
  dev_t device = 0;   ///< with the number: the file itself, whatever its name
  ino_t number = 0;
  uid_t owner = 0;

  bool is_same_file(const FileInfo& other) const noexcept {
    return device == other.device && number == other.number;
  }
};

/// An open file. Closed by the destructor, which ignores failures; `close`
/// reports them. CLOEXEC always. EINTR and short counts are handled inside.
class File {
 public:
  File() = default;
  File(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  /// Opens for reading. Error(invalid) when it is not a plain file.
  static File open(const std::filesystem::path& path);

  bool is_open() const noexcept { return fd_ >= 0; }
  bool is_direct() const noexcept { return is_direct_; }
  int fd() const noexcept { return fd_; }
  const std::string& name() const noexcept { return name_; }

  FileInfo info() const;
  std::uint64_t size() const { return info().nbytes; }
  /// Reads exactly out.size() bytes. Error(corrupt) when the file ends before.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;
  /// Another handle of this very file, whatever has its name now: the kernel
  /// reads ahead for each handle by itself. Nothing where the system has no
  /// /proc.
  std::optional<File> reopen() const;
  /// A second descriptor of this handle: they share its locks.
  File duplicate() const;
  /// True when the page cache holds the page at each of `offsets` (below the
  /// file's end). Reads nothing. The kernel answers strangers of a file with
  /// true, whatever there is.
  bool is_cached(std::span<const std::uint64_t> offsets) const;
  /// Writes all bytes.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;
  /// Asks the kernel to begin writing these bytes to the disk. Best effort.
  void begin_write_back(std::uint64_t offset, std::uint64_t nbytes) const noexcept;
  /// Waits until these bytes are written back, and has the page cache let them
  /// go. Throws what the write-back met: fsync would not tell it again.
  void finish_write_back(std::uint64_t offset, std::uint64_t nbytes) const;
  /// Reserves space; false when the file system cannot. Error(no_space) when
  /// there is not enough.
  bool reserve(std::uint64_t nbytes) const;
  void resize(std::uint64_t nbytes) const;
  void set_mode(unsigned mode) const;
  /// fsync. A failure is final: it is never tried again.
  void sync() const;
  void close();
  /// Forgets the descriptor without closing it.
  void leak() noexcept { fd_ = -1; }

 private:
  friend class Directory;
  int fd_ = -1;
  bool is_direct_ = false;
  std::string name_;
};

/// An open directory; names are relative to it, so that a renamed or replaced
/// parent cannot redirect a write.
class Directory {
 public:
  static Directory open(const std::filesystem::path& path);
  /// Opens; makes it and its missing parents first, durably.
  static Directory open_or_make(const std::filesystem::path& path);

  const std::string& name() const noexcept { return file_.name(); }
  int fd() const noexcept { return file_.fd(); }
  FileInfo info() const { return file_.info(); }
  /// Another handle of this very folder.
  Directory reopen() const;

  /// Creates a file that must not exist, for reading and writing. With `direct`
  /// for direct I/O: writes then take memory, offsets and lengths in multiples
  /// of 4096, and the file begins with a page of zeros that proves it. Nothing
  /// when the file system refuses direct I/O.
  /// `mode` is narrowed by the process's mask.
  std::optional<File> create(const std::string& name, bool direct = false,
                             unsigned mode = 0666) const;
  File open_file(const std::string& name) const;
  Directory make_directory(const std::string& name, unsigned mode = 0777) const;
  Directory open_directory(const std::string& name, bool follow_links = false) const;
  /// All names but "." and "..", sorted.
  std::vector<std::string> list() const;
  /// Nothing when there is no such name. Does not follow links.
  std::optional<FileInfo> find(const std::string& name) const;
  bool exists(const std::string& name) const { return find(name).has_value(); }
  void rename(const std::string& from, const std::string& to) const;
  /// The same; false when `from` cannot be renamed in place, as a folder in a
  /// lower layer of an overlay, which can only be copied and removed.
  bool try_rename(const std::string& from, const std::string& to) const;
  /// Renames to a name that must be free; false when it is not, and then nothing
  /// was changed. A file system that cannot rename so takes a link instead; one
  /// that cannot link either is asked for the name just before.
  bool rename_to_new(const std::string& from, const std::string& to) const;
  /// Swaps two names at once; false when the file system cannot, or cannot
  /// rename one of the two (a folder in a lower layer of an overlay).
  bool exchange(const std::string& a, const std::string& b) const;
  /// Gives a file here a second name, which must be free, in `to`.
  void link(const std::string& name, const Directory& to, const std::string& new_name) const;
  void remove_file(const std::string& name) const;
  void remove_folder(const std::string& name) const;  ///< which must be empty
  /// Removes a directory and all below it, however deep, without following links.
  void remove_tree(const std::string& name) const;
  /// fsync; false when the file system has none for directories.
  bool sync() const;
  /// The path of a name in it, for messages.
  std::string path_of(const std::string& name) const {
    return this->name() == "." ? name : this->name() + "/" + name;
  }

 private:
  explicit Directory(File file) : file_(std::move(file)) {}
  File file_;
};

}  // namespace understudy::os
