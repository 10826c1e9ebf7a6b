#include "os/calls.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

namespace understudy::os {

namespace {

// open, openat and fcntl take their last argument by `...`, which a function
// pointer cannot name; the others are the functions themselves.
constinit const Calls kSystemCalls = {
    .open = [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); },
    .openat = [](int dir, const char* path, int flags,
                 mode_t mode) { return ::openat(dir, path, flags, mode); },
    .close = ::close,
    .pread = ::pread,
    .pwrite = ::pwrite,
    .fsync = ::fsync,
    .sync_file_range = ::sync_file_range,
    .fallocate = ::fallocate,
    .ftruncate = ::ftruncate,
    .fstat = ::fstat,
    .fstatat = ::fstatat,
    .readlinkat = ::readlinkat,
    .fchmod = ::fchmod,
    .mkdirat = ::mkdirat,
    .renameat = ::renameat,
    .renameat2 = ::renameat2,
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
