// First touch, by measurement on two threads of a virtual machine whose host had
// the memory ready, for 1 GiB with a copy of 46 ms in it:
//
//     private, small pages: fault by fault 271-315 ms, populated 194-250 ms
//     private, huge pages, populated: 84-106 ms
//     shared, small pages: fallocate 440 ms, populated 320-340 ms
//     shared, collapsed into huge pages: 85-130 ms
//
// Shared memory gets huge pages by MADV_COLLAPSE (Linux 6.1), which makes a huge
// page out of a range in which one small page exists, and asks no system-wide
// setting but "deny". Memory that the host itself has to find first costs 1.2 s
// a GiB more, whatever the pages; nobody inside can tell.
#include "os/fresh_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "os/calls.h"
#include "os/system.h"

namespace understudy::os {
namespace {

// Numbers of madvise(2) that older headers lack.
constexpr int kPopulateWrite = 23;  // Linux 5.14
constexpr int kCollapse = 25;       // Linux 6.1

std::uint64_t page_nbytes() {
  static const auto nbytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return nbytes;
}

// 0, or why not.
int advise(std::byte* data, std::uint64_t nbytes, int advice) {
  for (;;) {
    if (calls().madvise(data, nbytes, advice) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

void* map_at(void* address, std::uint64_t nbytes, int protection, int flags, int fd) {
  void* data = MAP_FAILED;
  do {
    data = calls().mmap(address, nbytes, protection, flags, fd, 0);
  } while (data == MAP_FAILED && errno == EINTR);
  return data;
}

// At a multiple of the huge page: more addresses than needed are taken, and what
// is left before and behind is given back.
void* map_aligned(std::uint64_t nbytes, int flags, int fd) {
  const auto whole = nbytes + kHugePageNbytes;
  void* base = map_at(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (base == MAP_FAILED) return base;
  auto* const begin = static_cast<std::byte*>(base);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const auto head = round_up(address, std::uintptr_t{kHugePageNbytes}) - address;
  const auto tail = round_up(head + nbytes, page_nbytes());
  void* data = map_at(begin + head, nbytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd);
  if (data == MAP_FAILED) {
    const int cause = errno;
    calls().munmap(begin, whole);
    errno = cause;
    return data;
  }
  if (head > 0) calls().munmap(begin, head);
  if (tail < whole) calls().munmap(begin + tail, whole - tail);
  return data;
}

std::byte* map(std::uint64_t nbytes, int flags, int fd, const char* what) {
  void* data = nbytes >= kHugePageNbytes
                   ? map_aligned(nbytes, flags, fd)
                   : map_at(nullptr, nbytes, PROT_READ | PROT_WRITE, flags, fd);
  if (data == MAP_FAILED) {
    fail(ErrorCode::no_space, "cannot map {} of {} bytes: {}", what, nbytes, std::strerror(errno));
  }
  return static_cast<std::byte*>(data);
}

// The kernel is older than the advice.
bool is_unknown(int cause) {
  return cause == EINVAL || cause == ENOSYS;
}

[[noreturn]] void fail_to_touch(const char* what, std::uint64_t nbytes, int cause) {
  // EFAULT stands for what would be a SIGBUS.
  fail(ErrorCode::no_space, "cannot make {} bytes of {}: {}", nbytes, what,
       cause == EFAULT ? "no space is left" : std::strerror(cause));
}

}  // namespace

SharedMapping::SharedMapping(std::uint64_t nbytes, Children children) : nbytes_(nbytes) {
  require_memory("an image", nbytes);
  fd_ = calls().memfd_create("understudy-image", MFD_CLOEXEC);
  if (fd_ < 0) {
    fail(ErrorCode::io, "cannot create shared memory for an image: {}", std::strerror(errno));
  }
  try {
    int result;
    do {
      result = calls().ftruncate(fd_, static_cast<off_t>(nbytes));
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
      fail(ErrorCode::no_space, "cannot size an image of {} bytes: {}", nbytes,
           std::strerror(errno));
    }
    data_ = map(nbytes, MAP_SHARED, fd_, "an image");
  } catch (...) {
    calls().close(fd_);
    throw;
  }
  if (children == Children::nothing) advise(data_, nbytes, MADV_DONTFORK);
}

SharedMapping::SharedMapping(int fd, std::uint64_t nbytes) : nbytes_(nbytes), fd_(fd) {
  try {
    struct stat found {};
    if (calls().fstat(fd, &found) != 0) {
      fail(ErrorCode::invalid, "descriptor {} is not of shared memory: {}", fd,
           std::strerror(errno));
    }
    // A shorter one would be a SIGBUS of whoever reads it.
    const auto there = static_cast<std::uint64_t>(found.st_size);
    if (nbytes == 0 || there < nbytes) {
      fail(ErrorCode::invalid, "shared memory of {} bytes has {} bytes", nbytes, there);
    }
    data_ = map(nbytes, MAP_SHARED, fd_, "shared memory");
  } catch (...) {
    calls().close(fd_);
    throw;
  }
}

SharedMapping::~SharedMapping() {
  calls().munmap(data_, nbytes_);
  calls().close(fd_);
}

void SharedMapping::touch(std::uint64_t begin, std::uint64_t nbytes) {
  const auto end = begin + nbytes;
  const auto first = round_up(begin, kHugePageNbytes),
             last = end / kHugePageNbytes * kHugePageNbytes;
  if (first >= last || refusal_ != 0) return touch_small(begin, nbytes);
  touch_small(begin, first - begin);
  // A hole alone is not collapsed.
  for (auto at = first; at < last; at += kHugePageNbytes) {
    if (advise(data_ + at, page_nbytes(), kPopulateWrite) != 0) {
      return touch_small(first, end - first);
    }
  }
  const int refusal = advise(data_ + first, last - first, kCollapse);
  if (refusal != 0) {
    // Not asked again: looking for huge pages that are not there is slow.
    refusal_ = refusal;
    return touch_small(first, end - first);
  }
  has_huge_ = true;
  touch_small(last, end - last);
}

void SharedMapping::touch_small(std::uint64_t begin, std::uint64_t nbytes) {
  if (nbytes == 0) return;
  const auto end = begin + nbytes;
  begin -= begin % page_nbytes();
  has_small_ = true;
  int cause = advise(data_ + begin, end - begin, kPopulateWrite);
  if (is_unknown(cause)) {
    // An older kernel: reserved is enough, the writer's faults do the rest.
    int result;
    do {
      result =
          calls().fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
    } while (result != 0 && errno == EINTR);
    cause = result == 0 ? 0 : errno;
  }
  if (cause != 0) fail_to_touch("shared memory", end - begin, cause);
}

std::string SharedMapping::describe_pages() const {
  if (!has_small_) return has_huge_ ? "huge pages" : "no pages";
  const auto* const kind = has_huge_ ? "huge and small pages" : "small pages";
  const int cause = refusal_;
  if (cause == 0) return kind;
  return format_text("{} (a huge page was refused: {})", kind, std::strerror(cause));
}

AnonymousMapping::AnonymousMapping(std::uint64_t nbytes) : nbytes_(nbytes) {
  if (nbytes >= kHugePageNbytes) require_memory("a buffer", nbytes);
  data_ = map(nbytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, "a buffer");
  if (nbytes >= kHugePageNbytes) advise(data_, nbytes, MADV_HUGEPAGE);
}

AnonymousMapping::~AnonymousMapping() {
  calls().munmap(data_, nbytes_);
}

void AnonymousMapping::touch(std::uint64_t begin, std::uint64_t nbytes) {
  if (nbytes == 0) return;
  const auto end = begin + nbytes;
  begin -= begin % page_nbytes();
  const int cause = advise(data_ + begin, end - begin, kPopulateWrite);
  // An older kernel makes them when they are written.
  if (cause != 0 && !is_unknown(cause)) fail_to_touch("memory", end - begin, cause);
}

}  // namespace understudy::os
