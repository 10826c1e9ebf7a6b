#include "os/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/failure.h"

namespace understudy::os {

namespace {

struct flock whole_file(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;  // from 0, with length 0: to the end
  return lock;
}

}  // namespace

File open_lock_file(const Directory& directory, const std::string& name) {
  std::string path = directory.name() + "/" + name;
  int fd = uninterrupted([&] {
    return calls().openat(directory.fd(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                          0666);
  });
  if (fd < 0) fail_call("open", path, errno);
  return File(fd, std::move(path));
}

std::optional<pid_t> lock_for_process(const File& file) {
  // The holder may let go between the two questions; then ask again. More than
  // a few such turns are not chance: say that somebody has it.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    struct flock lock = whole_file(F_WRLCK);
    if (uninterrupted([&] { return calls().lock(file.fd(), F_SETLK, &lock); }) == 0) return {};
    if (errno != EAGAIN && errno != EACCES) fail_call("lock", file.name(), errno);

    lock = whole_file(F_WRLCK);
    if (uninterrupted([&] { return calls().lock(file.fd(), F_GETLK, &lock); }) != 0) {
      fail_call("ask for the lock of", file.name(), errno);
    }
    // Not a process of this container, or a lock without a process.
    if (lock.l_type != F_UNLCK) return lock.l_pid > 0 ? lock.l_pid : 0;
  }
  return 0;
}

FileLock lock_open_file(const File& file) {
  if (uninterrupted([&] { return calls().flock(file.fd(), LOCK_EX | LOCK_NB); }) == 0) {
    return FileLock::taken;
  }
  return errno == EWOULDBLOCK ? FileLock::held : FileLock::unsupported;
}

}  // namespace understudy::os
