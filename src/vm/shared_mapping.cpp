#include "vm/shared_mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "os/calls.h"
#include "os/system.h"
#include "vm/pages.h"

namespace understudy::vm {

using os::calls;

SharedMapping::SharedMapping(std::uint64_t nbytes, Children children) {
  os::require_memory("an image", nbytes);
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
    mapping_.emplace(Mapping::shared(fd_, nbytes, "an image"));
  } catch (...) {
    calls().close(fd_);
    throw;
  }
  if (children == Children::nothing) advise(data(), nbytes, MADV_DONTFORK);
}

SharedMapping::SharedMapping(int fd, std::uint64_t nbytes, Children children) : fd_(fd) {
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
    mapping_.emplace(Mapping::shared(fd_, nbytes, "shared memory"));
  } catch (...) {
    calls().close(fd_);
    throw;
  }
  if (children == Children::nothing) advise(data(), nbytes, MADV_DONTFORK);
}

SharedMapping::~SharedMapping() {
  mapping_.reset();
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
    if (populate(data() + at, page_nbytes()) != 0) {
      return touch_small(first, end - first);
    }
  }
  const int refusal = collapse(data() + first, last - first);
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
  int cause = populate(data() + begin, end - begin);
  if (is_unknown_advice(cause)) {
    // An older kernel: reserved is enough, the writer's faults do the rest.
    int result;
    do {
      result =
          calls().fallocate(fd_, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
    } while (result != 0 && errno == EINTR);
    cause = result == 0 ? 0 : errno;
  }
  if (cause != 0) fail_to_make("shared memory", end - begin, cause);
}

std::string SharedMapping::describe_pages() const {
  if (!has_small_) return has_huge_ ? "huge pages" : "no pages";
  const auto* const kind = has_huge_ ? "huge and small pages" : "small pages";
  const int cause = refusal_;
  if (cause == 0) return kind;
  return format_text("{} (a huge page was refused: {})", kind, std::strerror(cause));
}

}  // namespace understudy::vm
