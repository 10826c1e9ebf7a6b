#include "os/calls.h"

#include <liburing.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace understudy::os {

namespace {

int with_errno(int result) noexcept {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

// open, openat, fcntl and ioctl take their last argument by `...`, which a
// function pointer cannot name. userfaultfd has no function; process_vm_writev
// has one, which the thread sanitizer takes for a plain read of memory that the
// trainer may write by now. The others are the functions themselves.
constinit const Calls kSystemCalls = {
    .open = [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); },
    .openat = [](int dir, const char* path, int flags,
                 mode_t mode) { return ::openat(dir, path, flags, mode); },
    .duplicate = [](int fd) { return ::fcntl(fd, F_DUPFD_CLOEXEC, 0); },
    .close = ::close,
    .pread = ::pread,
    .pwrite = ::pwrite,
    .fsync = ::fsync,
    .sync_file_range = ::sync_file_range,
    .fadvise = [](int fd, off_t offset, off_t nbytes,
                  int advice) { return with_errno(-::posix_fadvise(fd, offset, nbytes, advice)); },
    .fallocate = ::fallocate,
    .ftruncate = ::ftruncate,
    .fstat = ::fstat,
    .fstatat = ::fstatat,
    .readlinkat = ::readlinkat,
    .fchmod = ::fchmod,
    .mkdirat = ::mkdirat,
    .renameat = ::renameat,
    .renameat2 = ::renameat2,
    .linkat = ::linkat,
    .unlinkat = ::unlinkat,
    .lock = [](int fd, int command, struct flock* lock) { return ::fcntl(fd, command, lock); },
    .flock = ::flock,
    .fdopendir = ::fdopendir,
    .readdir = ::readdir,
    .closedir = ::closedir,
    .memfd_create = ::memfd_create,
    .mmap = ::mmap,
    .munmap = ::munmap,
    .madvise = ::madvise,
    .userfaultfd = [](int flags) { return static_cast<int>(syscall(SYS_userfaultfd, flags)); },
    .ioctl = [](int fd, unsigned long request,
                void* argument) { return ::ioctl(fd, request, argument); },
    .eventfd = ::eventfd,
    .poll = ::poll,
    .read = ::read,
    .write = ::write,
    .write_own_memory =
        [](const struct iovec* from, const struct iovec* to) {
          return static_cast<ssize_t>(
              syscall(SYS_process_vm_writev, getpid(), from, 1UL, to, 1UL, 0UL));
        },
    .uring_open =
        [](unsigned depth, io_uring* ring) {
          int result = io_uring_queue_init(depth, ring, 0);
          if (result < 0) return with_errno(result);
          // The guards of process.h keep a forked child from the ring; so does this.
          result = io_uring_ring_dontfork(ring);
          if (result < 0) io_uring_queue_exit(ring);
          return with_errno(result);
        },
    .uring_submit = [](io_uring* ring) { return with_errno(io_uring_submit(ring)); },
    .uring_wait = [](io_uring* ring,
                     io_uring_cqe** done) { return with_errno(io_uring_wait_cqe(ring, done)); },
    .uring_result = [](const io_uring_cqe* done) -> ssize_t { return with_errno(done->res); },
};

constinit std::atomic<const Calls*> table = &kSystemCalls;

}  // namespace

const Calls& calls() noexcept {
  return *table.load(std::memory_order_acquire);
}

const Calls& system_calls() noexcept {
  return kSystemCalls;
}

ReplaceCalls::ReplaceCalls(const Calls& replacement) noexcept
    : before_(table.exchange(&replacement, std::memory_order_acq_rel)) {}

ReplaceCalls::~ReplaceCalls() {
  table.store(before_, std::memory_order_release);
}

}  // namespace understudy::os
