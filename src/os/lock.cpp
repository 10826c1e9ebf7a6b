#include "os/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "os/calls.h"
#include "os/failure.h"
#include "os/fork.h"
#include "understudy/error.h"

namespace understudy::os {

namespace {

// A holder's name is shorter; more is not ours.
constexpr std::size_t kMaxTextNbytes = 200;

struct flock whole_file(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;  // from 0, with length 0: to the end
  return lock;
}

/// Descriptors that forked children close.
struct ClosedInChildren {
  std::mutex mutex;
  std::vector<int> fds;
};

/// Never destroyed: threads may fork while the process ends.
ClosedInChildren& closed_in_children() {
  static ClosedInChildren* const made = [] {
    auto* fresh = new ClosedInChildren;
    // The mutex is held across the fork, so that the child finds the list whole.
    at_fork([] { closed_in_children().mutex.lock(); }, [] { closed_in_children().mutex.unlock(); },
            [] {
              ClosedInChildren& inherited = closed_in_children();
              for (const int fd : inherited.fds) calls().close(fd);
              inherited.fds.clear();
              inherited.mutex.unlock();
            });
    return fresh;
  }();
  return *made;
}

int open_or_make(const Directory& directory, const std::string& name) {
  ClosedInChildren& list = closed_in_children();
  const std::lock_guard guard(list.mutex);  // no fork between the opening and the noting
  list.fds.reserve(list.fds.size() + 1);
  const int fd = uninterrupted([&] {
    return calls().openat(directory.fd(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                          0666);
  });
  if (fd < 0) fail_call("open", directory.name() + "/" + name, errno);
  list.fds.push_back(fd);
  return fd;
}

}  // namespace

LockFile::LockFile(const Directory& directory, const std::string& name)
    : file_(open_or_make(directory, name), directory.name() + "/" + name) {}

LockFile::~LockFile() {
  // A child that is about to call exec shares the lock for that moment.
  struct flock lock = whole_file(F_UNLCK);
  calls().lock(file_.fd(), F_OFD_SETLK, &lock);
  ClosedInChildren& list = closed_in_children();
  const std::lock_guard guard(list.mutex);
  std::erase(list.fds, file_.fd());
  file_ = {};
}

std::optional<pid_t> LockFile::lock() {
  // The holder may let go between the two questions; then ask again. More than
  // a few such turns are not chance: say that somebody has it.
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    struct flock lock = whole_file(F_WRLCK);
    if (uninterrupted([&] { return calls().lock(file_.fd(), F_OFD_SETLK, &lock); }) == 0) return {};
    if (errno != EAGAIN && errno != EACCES) fail_call("lock", name(), errno);

    lock = whole_file(F_WRLCK);
    if (uninterrupted([&] { return calls().lock(file_.fd(), F_OFD_GETLK, &lock); }) != 0) {
      fail_call("ask for the lock of", name(), errno);
    }
    // Not a process of this container, or a lock without a process.
    if (lock.l_type != F_UNLCK) return lock.l_pid > 0 ? lock.l_pid : 0;
  }
  return 0;
}

std::string LockFile::text() const {
  std::string text(std::min<std::size_t>(file_.size(), kMaxTextNbytes), '\0');
  try {
    file_.read_at(0, std::as_writable_bytes(std::span(text)));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::corrupt) throw;
    return {};  // its holder writes it anew at this moment
  }
  return text;
}

bool LockFile::set_text(const std::string& text) {
  file_.resize(0);
  try {
    file_.write_at(0, std::as_bytes(std::span(text)));
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::no_space) throw;
    return false;
  }
}

FileLock lock_open_file(const File& file) {
  if (uninterrupted([&] { return calls().flock(file.fd(), LOCK_EX | LOCK_NB); }) == 0) {
    return FileLock::taken;
  }
  return errno == EWOULDBLOCK ? FileLock::held : FileLock::unsupported;
}

}  // namespace understudy::os
