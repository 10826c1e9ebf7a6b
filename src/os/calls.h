// The table of system calls that commit, shared memory and overlapped capture go
// through. Tests put faults into it; nothing else replaces it.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

struct io_uring;  // liburing's, which only those who call it include
struct io_uring_cqe;

namespace understudy::os {

/// Each member is the call of its name: the same arguments, result and errno.
struct Calls {
  int (*open)(const char* path, int flags, mode_t mode);
  int (*openat)(int dir, const char* path, int flags, mode_t mode);
  int (*duplicate)(int fd);  ///< fcntl with F_DUPFD_CLOEXEC
  int (*close)(int fd);
  ssize_t (*pread)(int fd, void* out, std::size_t nbytes, off_t offset);
  ssize_t (*pwrite)(int fd, const void* bytes, std::size_t nbytes, off_t offset);
  int (*fsync)(int fd);
  int (*sync_file_range)(int fd, off_t offset, off_t nbytes, unsigned flags);
  int (*fadvise)(int fd, off_t offset, off_t nbytes, int advice);
  int (*fallocate)(int fd, int mode, off_t offset, off_t nbytes);
  int (*ftruncate)(int fd, off_t nbytes);
  int (*fstat)(int fd, struct stat* out);
  int (*fstatat)(int dir, const char* path, struct stat* out, int flags);
  ssize_t (*readlinkat)(int dir, const char* path, char* out, std::size_t nbytes);
  int (*fchmod)(int fd, mode_t mode);
  int (*mkdirat)(int dir, const char* path, mode_t mode);
  int (*renameat)(int from_dir, const char* from, int to_dir, const char* to);
  int (*renameat2)(int from_dir, const char* from, int to_dir, const char* to, unsigned flags);
  int (*linkat)(int from_dir, const char* from, int to_dir, const char* to, int flags);
  int (*unlinkat)(int dir, const char* path, int flags);
  int (*lock)(int fd, int command, struct flock* lock);  ///< fcntl with a lock
  int (*flock)(int fd, int operation);
  DIR* (*fdopendir)(int fd);
  struct dirent* (*readdir)(DIR* dir);
  int (*closedir)(DIR* dir);
  int (*memfd_create)(const char* name, unsigned flags);
  void* (*mmap)(void* address, std::size_t nbytes, int protection, int flags, int fd, off_t offset);
  int (*munmap)(void* address, std::size_t nbytes);
  int (*madvise)(void* address, std::size_t nbytes, int advice);
  int (*userfaultfd)(int flags);
  int (*ioctl)(int fd, unsigned long request, void* argument);
  int (*eventfd)(unsigned value, int flags);
  int (*poll)(struct pollfd* fds, nfds_t count, int timeout_ms);
  ssize_t (*read)(int fd, void* out, std::size_t nbytes);
  ssize_t (*write)(int fd, const void* bytes, std::size_t nbytes);
  /// process_vm_writev into this process itself, one run each.
  ssize_t (*write_own_memory)(const struct iovec* from, const struct iovec* to);
  // liburing's, with -1 and errno where it gives a negative number.
  int (*uring_open)(unsigned depth, struct io_uring* ring);  ///< made, and not for forked children
  int (*uring_submit)(struct io_uring* ring);
  int (*uring_wait)(struct io_uring* ring, struct io_uring_cqe** done);
  ssize_t (*uring_result)(const struct io_uring_cqe* done);  ///< of the write that has ended
};

/// The table in use.
const Calls& calls() noexcept;

/// The kernel's own calls.
const Calls& system_calls() noexcept;

/// Puts another table in place until the end of the scope. For tests: no other
/// thread may be in a call while it begins or ends. `table` must outlive it.
class ReplaceCalls {
 public:
  explicit ReplaceCalls(const Calls& table) noexcept;
  ~ReplaceCalls();
  ReplaceCalls(const ReplaceCalls&) = delete;
  ReplaceCalls& operator=(const ReplaceCalls&) = delete;

 private:
  const Calls* before_;
};

}  // namespace understudy::os
